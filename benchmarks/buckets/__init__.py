"""The sections of `object_stores.py`, and what they share: the server, the data, the loops of each contender."""
