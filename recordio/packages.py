"""PyArrow, imported when it is needed, here alone."""

from __future__ import annotations

from typing import Any

from recordio.errors import MissingPackageError


def pyarrow() -> Any:
    """The package, with its modules for files. Raises MissingPackageError."""
    try:
        import pyarrow as package
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError.needed("Arrow's tables and files", "pyarrow", "arrow", error) from error
    return package
