"""The errors of PyArrow as ours.

PyArrow runs no code that a file brings along: `arrow_types.py` refuses the extension type that once did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recordio.errors import SourceError
from recordio.packages import pyarrow


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
