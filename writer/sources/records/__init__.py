"""Records in files: TFRecord, ArrayRecord, Bagz, MDS, LitData, LMDB."""
