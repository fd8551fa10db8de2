"""The pages of `recordio view`: one that is a file by itself, or many that are served."""
