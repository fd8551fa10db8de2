"""Statistics of a dataset: how many values a field has, how large they are, which, and how they are spread.

measures.py   from the pages of a shard, as they are written or read
records.py    what came out; its JSON, which the manifest holds; the statistics of two parts together
"""
