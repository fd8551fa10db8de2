"""Who makes batches: the caller's thread, a pool of threads, or processes."""
