"""When a source was last changed, as far as a file system tells.

The modification time does not do: `mv`, `cp -p`, `rsync -a` and `tar x` bring a file with an older one. The time of the
last change of the inode (ctime) is set by the system whenever a file is written, renamed, linked or given another mode,
and by nothing else. Where a file system keeps none, it reports the modification time in its place.

A name may also come to mean another file without any change of either file: by a symbolic link made anew, or by a
folder renamed. So the links and folders on the way count too. Of a folder only a renaming counts, which sets its ctime
alone: entries that come and go set both its times, and those that matter are seen by their own names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

_MAX_LINKS = 40  # the system follows no more of them either
_TICK = 20 * 10**6  # by which a file's time may lag behind the clock
_MAX_SKEW = 60 * 10**9  # by which a file server's clock may be ahead; beyond it, changes would be missed for too long


def as_of(listed: int, changed: int) -> int:
    """The time after which a change is not in a listing made at `listed` of files last changed at `changed`."""
    return max(listed - _TICK, min(changed, listed + _MAX_SKEW))


def changed_at(found: os.stat_result) -> int:
    """When a file or link was last changed, in nanoseconds since the epoch."""
    return found.st_ctime_ns or found.st_mtime_ns


def arrived_at(found: os.stat_result) -> int:
    """When an entry came to be what it is: a file or link when last changed, a folder when renamed, or else 0."""
    if stat.S_ISDIR(found.st_mode) and found.st_ctime_ns == found.st_mtime_ns:
        return 0
    return changed_at(found)


def way_changed_at(path: bytes | str, base: bytes | str) -> int:
    """When a path last came to lead elsewhere, 0 if nothing tells. What leads to `base` too does not count."""
    shared = {(found.st_dev, found.st_ino) for found in _way(os.fsencode(base))}
    times = (arrived_at(found) for found in _way(os.fsencode(path)) if (found.st_dev, found.st_ino) not in shared)
    return max(times, default=0)


def _way(path: bytes) -> Iterator[os.stat_result]:
    """The folders and links through which a path leads, and what it leads to, as far as they are there."""
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
