"""The way in: sources are read as samples, packed into blocks, written to shards; the manifest comes last."""
