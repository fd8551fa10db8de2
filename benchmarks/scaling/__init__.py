"""The sections of scale.py: how cost grows with data, shards, datasets, batches and views."""
