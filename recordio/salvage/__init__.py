"""`recordio.repair`: what is left of a damaged dataset, bit for bit where that can be proven.

    identify      which dataset a folder holds, and its shards      identity.py, copies.py
    survey        what is left of each shard                        survey.py, mending.py, blocks.py
    publish       a new dataset, or the old one mended in place     publishing.py, writing.py

Nothing is believed that no checksum proves.
"""
