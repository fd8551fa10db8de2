"""The way out: the manifest gives an order, the order gives fetches, fetches become batches."""
