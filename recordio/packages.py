"""Optional packages: imported when they are needed, with an error that says what to install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from recordio.errors import MissingPackageError


def optional(module: str, what: str, extra: str) -> Any:
    """A module of a package of an extra, which `what` (in the plural) need. Raises MissingPackageError."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackageError.needed(what, module, extra, error) from error


def pyarrow() -> Any:
    """PyArrow, with its modules for files. Raises MissingPackageError."""
    for module in ("pyarrow", "pyarrow.compute", "pyarrow.ipc", "pyarrow.parquet"):
        optional(module, "Arrow's tables and files", "arrow")
    return import_module("pyarrow")
