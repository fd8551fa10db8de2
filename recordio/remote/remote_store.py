"""A store by its URL, as the helper process reads and writes it."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Awaitable, Callable
from typing import Any

from recordio.remote.fetching import Counts, Requests
from recordio.remote.page_sink import PageSink
from recordio.remote.request_errors import RequestError
from recordio.remote.stores import Opened, obstore

_REFETCHES = 3
_LEAST_SECONDS, _LEAST_RATE = 30, 500_000  # of an answer to what was written, after so many bytes a second
_VERSION = ("e_tag", "version")


class RemoteStore:
    """A store by its URL, and the requests to it.

    Args:
        opened: opens the store, with the credentials of that moment; takes other timeouts.
        requests: to the store.
        counts: of this process.

    Attributes:
        turns: for fetches, which open files: the next ones do so while those before are under way, all others wait.
    """

    def __init__(self, opened: Callable[..., Awaitable[Opened]], requests: Requests, counts: Counts) -> None:
        self._obstore = obstore()
        self._opened = opened
        self._for_writing: dict[tuple[int, int], Any] = {}
        self._requests = requests
        self._counts = counts
        self._generation = 0
        self._opening = asyncio.Lock()
        self.turns = asyncio.Semaphore(2 * requests.most)
        self._etags: dict[str, str | None] = {}  # of objects that were read; None: what it says proves nothing

    async def open(self, generation: int = -1) -> None:
        """Opens the store, unless that was done since this generation."""
        async with self._opening:
            if generation in (-1, self._generation):
                found = await self._opened()
                self._store, self._renews, self._pins = found
                self._generation += 1

    async def _run(self, attempt: Callable[[], Awaitable[Any]], nbytes: int | None = None, sent: int = 0) -> Any:
        """The request, once more with new credentials if those of before are refused."""
        generation = self._generation
        try:
            return await self._requests.run(attempt, nbytes, sent)
        except RequestError as error:
            if error.kind != "denied" or not self._renews:
                raise
        await self.open(generation)
        return await self._requests.run(attempt, nbytes, sent)

    async def get(self, path: str, begin: int, end: int | None, most: int) -> tuple[bytes, str | None, int]:
        """Bytes of an object, its ETag and its size: the whole object if `end` is None, at most so many bytes."""

        async def attempt() -> tuple[bytes, str | None, int]:
            options: Any = {} if end is None else {"range": (begin, end)}
            found = await self._obstore.get_async(self._store, path, options=options)
            size = found.meta["size"]
            if (size if end is None else end - begin) > most:
                raise RequestError("refused", f"{size} bytes are too many: expected {most} at most")
            _require_size(size, end)
            data = bytes(await found.bytes_async())
            _require_length(len(data), size if end is None else end - begin)
            return data, found.meta["e_tag"], size

        return await self._run(attempt)  # type: ignore[no-any-return]

    async def fetch(self, path: str, sink: PageSink) -> None:
        """Fetches the sink's range, again while what arrives is not what was written."""
        for number in range(_REFETCHES + 1):
            data = await self._pinned(path, sink.begin, sink.end)
            bad = sink.first_bad(data)
            if bad is None:
                sink.write(data)
                return
            self._counts.refetched += number < _REFETCHES
        tries = f"{_REFETCHES + 1} times"
        raise RequestError("wrong", f"the bytes that arrive are not those that were written, {tries}", bad)

    async def _pinned(self, path: str, begin: int, end: int) -> Any:
        """A range of the object that was read before.

        If it is another one by its ETag, then its bytes must prove that it is not: copies and mirrors have other ETags.
        """

        async def attempt() -> Any:
            options: Any = {"range": (begin, end)}
            if self._pins and (etag := self._etags.get(path)) is not None:
                options["if_match"] = etag
            found = await self._obstore.get_async(self._store, path, options=options)
            _require_size(found.meta["size"], end)
            data = await found.bytes_async()
            _require_length(len(data), end - begin)
            etag = found.meta["e_tag"]
            self._etags.setdefault(path, None if etag is None or etag.startswith("W/") else etag)
            return data

        try:
            return await self._run(attempt, end - begin)
        except RequestError as error:
            if error.kind != "changed":
                raise
        self._etags[path] = None
        return await self._run(attempt, end - begin)

    async def head(self, path: str) -> tuple[int, str | None, str | None]:
        """Size, ETag and version of an object."""
        found = await self._run(lambda: self._obstore.head_async(self._store, path))
        return found["size"], found["e_tag"], found["version"]

    async def put(self, path: str, data: Any, mode: Any) -> str | None:
        """Writes an object in one request: its new ETag.

        `mode`: "create", "overwrite", or ETag and version of the object to replace.
        """
        how = mode if isinstance(mode, str) else {k: v for k, v in zip(_VERSION, mode, strict=True) if v is not None}

        async def attempt() -> Any:
            store = await self._writing(len(data))
            return await self._obstore.put_async(store, path, data, mode=how, use_multipart=False)

        found = await self._run(attempt, sent=len(data))
        return found["e_tag"]  # type: ignore[no-any-return]

    async def upload(self, path: str, file: str, mode: Any) -> str | None:
        """Writes a file of this machine as an object, as `put` does."""
        with open(file, "rb") as opened:
            if not os.fstat(opened.fileno()).st_size:
                return await self.put(path, b"", mode)
            content = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
        return await self.put(path, memoryview(content), mode)

    async def _writing(self, nbytes: int) -> Any:
        """A store for writing so much: its time limit for an answer counts from the first byte that is sent."""
        seconds = 1 << (_LEAST_SECONDS + nbytes // _LEAST_RATE).bit_length()
        key = self._generation, seconds
        if key not in self._for_writing:
            opened = await self._opened(read_timeout=f"{seconds}s", timeout=f"{2 * seconds}s")
            self._for_writing[key] = opened.store
        return self._for_writing[key]

    async def delete(self, paths: list[str]) -> None:
        await self._run(lambda: self._obstore.delete_async(self._store, paths))

    async def list(self, prefix: str) -> list[list[Any]]:
        """[path, size, seconds since 1970] of every object below a prefix."""

        async def attempt() -> Any:
            return [one async for page in self._obstore.list(self._store, prefix or None) for one in page]

        found = await self._run(attempt)
        return [[one["path"], one["size"], one["last_modified"].timestamp()] for one in found]


def _require_length(found: int, wanted: int) -> None:
    if found != wanted:
        raise RequestError("answer", f"{found} bytes have arrived, expected {wanted}")


def _require_size(size: int, end: int | None) -> None:
    """An object that is too short stays so: asking again is of no use."""
    if end is not None and size < end:
        text = f"the object has {size} bytes, expected {end} or more: it was cut, or replaced"
        raise RequestError("wrong", text, size)
