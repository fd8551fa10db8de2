"""When batches are made: the loader, its options, the run of an epoch, prefetching."""
