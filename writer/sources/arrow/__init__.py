"""Tables of Arrow: Parquet, IPC, and the folders of Hugging Face's datasets."""
