"""Finished datasets into others: merged, appended, resharded, split. Planned first, made in units, committed once."""
