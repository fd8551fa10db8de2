"""Proof that a dataset holds what its source does: the source is read again, and every sample is compared."""
