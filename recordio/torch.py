"""The names for PyTorch; importing this imports torch."""

from recordio.reader.torch.iterable import IterableShards
from recordio.reader.torch.loader import DataLoader

__all__ = ["DataLoader", "IterableShards"]
