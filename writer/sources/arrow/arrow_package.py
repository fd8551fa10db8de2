"""PyArrow, imported when it is needed, and its errors as ours.

No other module imports it. PyArrow runs no code that a file brings along: `arrow_types.py` refuses the extension type
that once did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from recordio.errors import MissingPackageError, SourceError


@cache
def pyarrow() -> Any:
    """The package, with its modules for files. Raises MissingPackageError."""
    try:
        import pyarrow as package
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError.needed("Parquet and Arrow files", "pyarrow", "arrow", error) from error
    return package


@contextmanager
def reading(what: str = "cannot be read") -> Iterator[None]:
    """Turns what PyArrow raises for a bad file or a bad value into SourceError, which begins with `what`."""
    try:
        yield
    except SourceError:
        raise
    except MemoryError as error:
        raise SourceError(f"{what}: it asks for more memory than there is") from error
    except (OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, NotImplementedError) as error:
        raise SourceError(f"{what}: {_first_line(error)}") from error
    except pyarrow().ArrowException as error:
        raise SourceError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]
