"""The names for PyTorch; importing this imports torch."""

from recordio.reader.torch.converted import CIFAR10, CIFAR100, MNIST, ImageFolder
from recordio.reader.torch.datasets import Dataset
from recordio.reader.torch.iterable import IterableShards
from recordio.reader.torch.loader import DataLoader
from recordio.reader.torch.whole import tensors

__all__ = ["CIFAR10", "CIFAR100", "MNIST", "DataLoader", "Dataset", "ImageFolder", "IterableShards", "tensors"]
