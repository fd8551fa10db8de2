"""The names for PyTorch; importing this imports torch."""

from recordio.reader.torch.loader import DataLoader, IterableShards

__all__ = ["DataLoader", "IterableShards"]
