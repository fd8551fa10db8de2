"""What other people's libraries raise over a stranger's bytes, as errors of ours: one place for all sources.

Each library has its own types, and crafted bytes make any of them raise nearly anything. That is a fault of the input:
a SourceError, which `on_error="skip"` may pass over. A lack of memory or of open files is none: it stays a MemoryError,
or becomes a StorageError, and stops the work, as else good samples would be left out.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from recordio.errors import RecordIOError, SourceError, StorageError

_Item = TypeVar("_Item")
_NOT_OF_THE_INPUT = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT}
_SAYS_NO_MEMORY = re.compile(
    r"(?:not enough|out of|insufficient|cannot allocate|can't allocate|unable to allocate) memory"
    r"|memory allocation|(?:can't|unable to|could not|failed to) allocate",
    re.IGNORECASE,
)
_MAX_SAID = 200


def refused(error: OSError, what: str = "cannot be read") -> SourceError | StorageError:
    """What the operating system refused, which begins with `what`."""
    text = f"{what}: {error.strerror or _first_line(error)}"
    return StorageError(text) if error.errno in _NOT_OF_THE_INPUT else SourceError(text)


def as_ours(error: BaseException, what: str = "cannot be read") -> RecordIOError | MemoryError:
    """The error to raise in place of a library's, which begins with `what`."""
    if isinstance(error, (RecordIOError, MemoryError)):
        return error
    if isinstance(error, OSError):
        return refused(error, what)
    if isinstance(error, RecursionError):
        return SourceError(f"{what}: it is nested too deep")
    said = _first_line(error)
    return (MemoryError if _SAYS_NO_MEMORY.search(said) else SourceError)(f"{what}: {said}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:_MAX_SAID]


@contextmanager
def reading(what: str = "cannot be read") -> Iterator[None]:
    """Raises what `as_ours` makes of the errors within."""
    try:
        yield
    except (RecordIOError, MemoryError):
        raise
    except Exception as error:
        raise as_ours(error, what) from error


def guarded(items: Iterable[_Item]) -> Iterator[_Item]:
    """The same items. Raises what `as_ours` makes of the errors of their making."""
    with reading():
        yield from items
