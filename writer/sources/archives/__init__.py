"""Archives, read as the folder in them or as WebDataset, and whatever is compressed."""
