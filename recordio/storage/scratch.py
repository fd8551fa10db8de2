"""Folders for files on their way elsewhere. That of a process that was killed is removed by the next one."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from recordio.errors import DatasetError, StorageError
from recordio.storage.atomic import FolderLock
from recordio.storage.base import storage_error

_PREFIX = "recordio-scratch-"
_NEW_SECONDS = 3600.0  # a folder this new may not have been locked yet by the process that makes it


class ScratchFolder:
    """A folder of this process, in the folder for temporary files: TMPDIR names another. Raises StorageError."""

    def __init__(self) -> None:
        top = Path(tempfile.gettempdir())
        _remove_dead(top)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=top))
        except OSError as error:
            raise storage_error("make a folder for temporary files (TMPDIR names another)", top, error) from error
        self._lock = FolderLock(self.path)

    def remove(self) -> None:
        """Removes the folder and all that is in it. A second call does nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def _remove_dead(top: Path) -> None:
    for path in top.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, DatasetError, StorageError):
            status = path.lstat()
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if ours and time.time() - status.st_mtime > _NEW_SECONDS:
                with FolderLock(path):
                    shutil.rmtree(path, ignore_errors=True)
