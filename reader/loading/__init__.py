"""When batches are made: the loader, its options, and the run of an epoch."""
