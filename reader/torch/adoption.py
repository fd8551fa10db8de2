"""Makes our datasets torch's as well, for libraries that ask `isinstance(ds, torch.utils.data.Dataset)`."""

from __future__ import annotations

from torch.utils import data

from recordio.reader.view import DatasetView


def adopt() -> None:
    """Adds torch's Dataset to the bases of DatasetView, behind all of ours.

    torch's Dataset has no metaclass with which a class could be registered, and a class made with it as a base would
    need torch at `import recordio`. Nothing of it is used: our methods come first. Pickles name our classes alone, so
    they open in processes without torch.
    """
    if not issubclass(DatasetView, data.Dataset):
        DatasetView.__bases__ = (*DatasetView.__bases__, data.Dataset)
