"""Reading: the manifest gives an order, the order gives fetches, the fetches become batches."""
