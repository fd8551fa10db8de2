"""Text in rows: CSV, TSV, JSON Lines, a document a line."""
