"""The names for Ray Data; importing this imports ray."""

from recordio.reader.ray_dataset import read
from recordio.writer.ray_sink import Sink

__all__ = ["Sink", "read"]
