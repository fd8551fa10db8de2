"""When a source was last changed, as far as the file system tells.

The modification time is not enough: `mv`, `cp -p`, `rsync -a` and `tar x` keep an older one. ctime, the time of the
last inode change, is set by the system alone, whenever a file is written, renamed, linked or given another mode. File
systems without it report the modification time instead.

A path may also lead to another file while neither file changes: a symbolic link is replaced, or a folder renamed. So
links and folders on the way count too. For a folder only renaming counts, which sets its ctime alone; adding and
removing entries sets both times, and relevant entries are seen themselves.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

_MAX_LINKS = 40  # Linux follows no more either
_TICK = 20 * 10**6  # a file's time may lag behind the clock by this much
_MAX_SKEW = 60 * 10**9  # tolerated lead of a file server's clock; more would hide changes for too long


def as_of(listed: int, changed: int) -> int:
    """Changes after this time are not in a listing made at `listed`, whose newest file was changed at `changed`."""
    return max(listed - _TICK, min(changed, listed + _MAX_SKEW))


def changed_at(found: os.stat_result) -> int:
    """When a file or link was last changed, in nanoseconds since the epoch."""
    return found.st_ctime_ns or found.st_mtime_ns


def arrived_at(found: os.stat_result) -> int:
    """When a file or link was last changed, or a folder renamed; 0 for a folder that was not."""
    if stat.S_ISDIR(found.st_mode) and found.st_ctime_ns == found.st_mtime_ns:
        return 0
    return changed_at(found)


def way_changed_at(path: bytes | str, base: bytes | str) -> int:
    """When a path last came to lead elsewhere, 0 if unknown. Links and folders above `base` too do not count."""
    shared = {(found.st_dev, found.st_ino) for found in _way(os.fsencode(base))}
    times = (arrived_at(found) for found in _way(os.fsencode(path)) if (found.st_dev, found.st_ino) not in shared)
    return max(times, default=0)


def _way(path: bytes) -> Iterator[os.stat_result]:
    """Each existing folder and link that a path goes through, and its target."""
    here, links = b"/", 0
    rest = os.path.join(os.getcwdb(), path).split(b"/")[::-1]
    while rest:
        part = rest.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            here = os.path.dirname(here)
            continue
        name = os.path.join(here, part)
        try:
            found = os.lstat(name)
            target = os.readlink(name) if stat.S_ISLNK(found.st_mode) else None
        except OSError:
            return
        yield found
        if target is None:
            here = name
            continue
        links += 1
        if links > _MAX_LINKS:
            return
        here = b"/" if target.startswith(b"/") else here
        rest += target.split(b"/")[::-1]
