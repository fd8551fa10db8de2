"""A dataset or a view as files of other formats: one file for each format, all behind one protocol."""
