"""A folder of an object store that is written to: whole objects, under conditions, so that two writers do no harm.

Every write is one request. What is there already stays, or is replaced only if it is still what was read. A large
object is not sent in parts: no version of obstore can make the end of such an upload conditional.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from recordio.errors import DatasetError, MissingPackageError, RecordIOError, StorageError
from recordio.format.layout import MAX_MANIFEST_NBYTES
from recordio.remote.helper_process import HelperDied, RemoteError, asked, helper
from recordio.remote.options import StorageOptions
from recordio.remote.urls import shown

MOST_NBYTES = 5_000_000_000  # of an object that S3 and Azure take in one request
PROBE = ".recordio-probe-"
_AT_A_TIME = 32
_READS = 20  # of an object that others replace meanwhile
_CREATE, _OVERWRITE = "create", "overwrite"
_proven: set[tuple[str, str | None]] = set()  # buckets and endpoints of stores that keep conditions


class Version(NamedTuple):
    """Which of the objects that have had a name it is: S3 and Azure know it by its ETag, GCS by its generation."""

    etag: str | None
    generation: str | None


class Listed(NamedTuple):
    """An object in a listing; `modified` in seconds since 1970."""

    name: str
    nbytes: int
    modified: float


@dataclass(frozen=True)
class RemoteTarget:
    """A folder of an object store.

    Attributes:
        url: where it lies.
        options: how the store is reached.
    """

    url: str
    options: StorageOptions

    @property
    def location(self) -> str:
        """The URL for people."""
        return shown(self.url)

    def require_conditions(self) -> None:
        """Raises DatasetError if the store ignores conditions. A store is tried once by each process."""
        store = urlsplit(self.url).netloc, self.options.endpoint
        if self.options.unsafe_overwrite or store in _proven:
            return
        name = f"{PROBE}{uuid.uuid4().hex}"
        self._put("put", name, b"", _CREATE)
        again = self._put("put", name, b"", _CREATE)
        changed = self._put("put", name, b"", ['"0"', "0"])
        self.delete([name])
        if again or changed:
            raise DatasetError(
                "this store overwrites what is there although it was asked not to, so two writers could destroy each "
                "other's dataset; storage={'unsafe_overwrite': True} (--storage unsafe_overwrite=true) writes to it, "
                "if nobody else does meanwhile"
            ).at(file=self.location)
        _proven.add(store)

    def require_writable(self) -> None:
        """Raises StorageError if nothing can be written there."""
        name = f"{PROBE}{uuid.uuid4().hex}"
        self.put(name, b"")
        with contextlib.suppress(StorageError):  # who may only write leaves it to `recordio clean`
            self.delete([name])

    def put_new(self, name: str, path: Path) -> bool:
        """Sends a file. False if there is an object of this name. Raises StorageError."""
        nbytes = path.stat().st_size
        if nbytes > MOST_NBYTES:
            raise StorageError(
                f"{nbytes} bytes are too many for an object that is written at once: expected {MOST_NBYTES} at most; "
                "give a smaller shard_bytes"
            ).at(file=name)
        return self._put_if("upload", name, os.path.abspath(path), None)

    def put_if(self, name: str, data: bytes, before: Version | None) -> bool:
        """Writes an object if there is none, or if it is still the version that was read. Whether it was written."""
        return self._put_if("put", name, data, before)

    def put(self, name: str, data: bytes) -> None:
        """Writes an object, whatever there is. Raises StorageError."""
        self._put("put", name, data, _OVERWRITE)

    def _put_if(self, what: str, name: str, content: Any, before: Version | None) -> bool:
        if self.options.unsafe_overwrite:
            found = self.version(name)
            return (found and found[1]) == before and self._put(what, name, content, _OVERWRITE)
        return self._put(what, name, content, _CREATE if before is None else list(before))

    def _put(self, what: str, name: str, content: Any, mode: Any) -> bool:
        try:
            self._ask(what, name, content, mode)
        except RemoteError as error:
            gone = error.kind == "missing" and mode not in (_CREATE, _OVERWRITE)
            if gone or error.kind in ("exists", "changed"):
                return False
            raise self.explained("write to", error, name) from error
        return True

    def version(self, name: str) -> tuple[int, Version] | None:
        """The length and the version of an object; None if there is none. Raises StorageError."""
        found = self._found("head", name)
        return None if found is None else (found[0], Version(*found[1:]))

    def holds(self, name: str) -> bool:
        """Whether there is an object of this name with any bytes. Raises StorageError.

        It asks for a byte, as the answer to a mere question for the object would not say why it is refused.
        """
        return self._found("get", name, 0, 1, 1) is not None

    def read(self, name: str) -> tuple[bytes, Version] | None:
        """A small object and its version; None if there is none. Raises StorageError."""
        for _ in range(_READS):
            if (found := self.version(name)) is None:
                return None
            content = self._found("get", name, 0, None, MAX_MANIFEST_NBYTES)
            if content is not None and content[1] == found[1].etag:  # else it was replaced in between
                return content[0], found[1]
        raise StorageError(f"{self.location} names another version of it each time").at(file=name)

    def tail(self, name: str, nbytes: int) -> tuple[int, bytes] | None:
        """The length of an object, and its last bytes; None if there is none. Raises StorageError."""
        found = self._found("head", name)
        if found is None or found[0] < nbytes:
            return None if found is None else (found[0], b"")
        content = self._found("get", name, found[0] - nbytes, found[0], nbytes)
        return None if content is None else (found[0], content[0])

    def read_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Small objects, many at a time; None for those that are not there. Raises StorageError."""
        found: list[bytes | None] = []
        for begin in range(0, len(names), _AT_A_TIME):
            some = names[begin : begin + _AT_A_TIME]
            ahead = [self._submit("get", name, 0, None, MAX_MANIFEST_NBYTES) for name in some]
            for name, future in zip(some, ahead, strict=True):
                try:
                    found.append(future.result()[0])
                except (RemoteError, HelperDied):
                    content = self._found("get", name, 0, None, MAX_MANIFEST_NBYTES)
                    found.append(None if content is None else content[0])
        return found

    def list(self, prefix: str = "") -> list[Listed]:
        """All objects below a folder in it, by name. Raises StorageError."""
        try:
            found = self._ask("list", prefix)
        except RemoteError as error:
            raise self.explained("list", error, "") from error
        return sorted(Listed(*one) for one in found)

    def delete(self, names: Iterable[str]) -> None:
        """Removes objects, if they are there. Raises StorageError."""
        every = list(names)
        if every:
            try:
                self._ask("delete", every)
            except RemoteError as error:
                if error.kind != "missing":
                    raise self.explained("delete from", error, every[0]) from error

    def _found(self, what: str, name: str, *args: Any) -> Any:
        try:
            return self._ask(what, name, *args)
        except RemoteError as error:
            if error.kind == "missing":
                return None
            raise self.explained("read from", error, name) from error

    def _submit(self, what: str, *args: Any) -> Future[Any]:
        ours = helper()
        return ours.submit(what, ours.store(self.url, self.options), *args)

    def _ask(self, what: str, *args: Any) -> Any:
        """Asks again if the helper dies. Raises RemoteError, StorageError."""
        return asked(lambda ours: ours.submit(what, ours.store(self.url, self.options), *args).result())

    def explained(self, action: str, error: RemoteError, name: str) -> RecordIOError:
        """An error of the helper as one of ours."""
        if error.kind == "package":
            return MissingPackageError(str(error))
        return StorageError(f"cannot {action} {self.location}: {error}").at(file=name or None)
