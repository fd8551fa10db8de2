"""The law: an input decodes, or raises our error, within the memory limit, within a second."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Iterator

from recordio.errors import RecordIOError
from recordio.format.layout import MAX_CODED_PAGE_NBYTES

MOST_SECONDS = 1.0  # of this process, so that another one at work changes nothing
MOST_NBYTES = 4 * MAX_CODED_PAGE_NBYTES  # of address space, beyond what the process has before


class TooSlow(Exception):
    """An input took longer than the law allows."""


def obey(read: Callable[[bytes], None], data: bytes) -> bool:
    """Whether the input decodes. Raises TooSlow, and whatever `read` raises that is not ours."""
    begin = time.process_time()
    try:
        read(data)
        decoded = True
    except RecordIOError as error:
        str(error)  # a message is made only when it is shown
        decoded = False
    taken = time.process_time() - begin
    if taken > MOST_SECONDS:
        raise TooSlow(f"{taken:.2f} s for {len(data)} bytes")
    return decoded


@contextlib.contextmanager
def limited_memory(nbytes: int = MOST_NBYTES) -> Iterator[None]:
    """Within, more than so many further bytes are a MemoryError."""
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
