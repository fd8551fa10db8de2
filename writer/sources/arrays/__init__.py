"""Arrays by row: NumPy, HDF5, Zarr, and the files of MNIST and CIFAR."""
