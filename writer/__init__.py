"""The way in: a source becomes samples, samples become blocks, blocks become shards, and the manifest comes last."""
