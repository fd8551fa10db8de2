"""The helper process: all network is here, so that a fork, or a busy interpreter, in the trainer never meets it.

It ends when the trainer's socket closes, or when its parent is another process than at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import mmap
import os
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from recordio.remote.credentials import credentials_of, environment
from recordio.remote.fetching import Counts, Requests
from recordio.remote.hugging_face_hub import MOST_CONNECTIONS
from recordio.remote.messages import Incoming, encode
from recordio.remote.page_sink import PageSink
from recordio.remote.request_errors import RequestError, request_error
from recordio.remote.stores import Opened, obstore, open_store
from recordio.remote.urls import shown

_LOOK_SECONDS = 0.5  # from one look for the trainer, and one sign of life, to the next
_REFETCHES = 3
_LEAST_SECONDS, _LEAST_RATE = 30, 500_000  # of an answer to what was written, after so many bytes a second
_VERSION = ("e_tag", "version")


class RemoteStore:
    """A store by its URL, and the requests to it.

    Args:
        opened: opens the store, with the credentials of that moment; takes other timeouts.
        requests: to the store.
        counts: of this process.
    """

    def __init__(self, opened: Callable[..., Awaitable[Opened]], requests: Requests, counts: Counts) -> None:
        self._obstore = obstore()
        self._opened = opened
        self._for_writing: dict[tuple[int, int], Any] = {}
        self._requests = requests
        self._counts = counts
        self._generation = 0
        self._opening = asyncio.Lock()
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

    async def fetch(self, path: str, begin: int, end: int, sink: PageSink) -> None:
        """Fetches a range into the sink, again while what arrives is not what was written."""
        for number in range(_REFETCHES + 1):
            data = await self._pinned(path, begin, end)
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


class Helper:
    """Answers the messages of one trainer."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming = Incoming(sock)
        self._outgoing: deque[bytes] = deque()
        self._stores: dict[int, asyncio.Future[RemoteStore]] = {}
        self._files: dict[int, int] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._counts = Counts()
        self._ended = asyncio.Event()

    async def run(self, parent: int) -> None:
        """Until the process with this number, which has started this one, is gone, or wants no more."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        loop.add_reader(self._socket, self._read)
        self._send(0, "alive")
        while not self._ended.is_set() and os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _LOOK_SECONDS)
            if self._tasks:
                self._send(0, "alive")
        os._exit(0)  # requests under way are of no use to anyone

    def _read(self) -> None:
        try:
            if not self._incoming.receive():
                self._ended.set()
        except BlockingIOError:
            return
        except OSError:
            self._ended.set()
        for message in self._incoming.messages():
            self._handle(*message)

    def _handle(self, number: int, name: str, *args: Any) -> None:
        if name == "attach":
            self._files[args[0]] = self._incoming.descriptors.popleft()
        elif name == "detach":
            os.close(self._files.pop(args[0]))
        elif name == "credentials":
            self._asked.pop(args[0]).set_result(args[1:])
        elif name == "store":
            self._stores[args[0]] = asyncio.ensure_future(self._open(*args))
        else:
            task = asyncio.ensure_future(self._answer(number, name, args))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, name: str, args: tuple[Any, ...]) -> None:
        try:
            self._send(number, True, await getattr(self, f"_do_{name}")(*args))
        except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
            found = request_error(error)
            self._send(number, False, found.kind, str(found), found.byte)

    def _send(self, *message: Any) -> None:
        self._outgoing.append(encode(*message))
        self._write()

    def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing[0])
            except BlockingIOError:
                loop.add_writer(self._socket, self._write)
                return
            except OSError:
                self._ended.set()
                return
            rest = self._outgoing.popleft()[sent:]
            if rest:
                self._outgoing.appendleft(rest)
        loop.remove_writer(self._socket)

    async def _open(self, number: int, url: str, options: dict[str, Any], variables: dict[str, str]) -> RemoteStore:
        _use_environment(variables)
        provider = self._provider(number, urlsplit(url).scheme) if options["credentials"] else None
        if url.startswith("hf:"):
            options["max_connections"] = min(options["max_connections"], MOST_CONNECTIONS)
        requests = Requests(self._counts, options, partial(self._say, shown(url)))
        store = RemoteStore(partial(open_store, url, options, provider), requests, self._counts)
        await (requests.run(store.open) if url.startswith("hf:") else store.open())
        return store

    def _say(self, url: str, text: str) -> None:
        self._send(0, "waiting", f"waiting for {url}: {text}")

    def _provider(self, store: int, scheme: str) -> Any:
        async def provide() -> Any:
            number = next(self._numbers)
            self._asked[number] = asyncio.get_running_loop().create_future()
            self._send(0, "credentials", number, store)
            found, error = await self._asked[number]
            return credentials_of(scheme, found, error)

        return provide

    async def _do_get(self, store: int, path: str, begin: int, end: int | None, most: int) -> Any:
        return await (await self._stores[store]).get(path, begin, end, most)

    async def _do_head(self, store: int, path: str) -> Any:
        return await (await self._stores[store]).head(path)

    async def _do_put(self, store: int, path: str, data: bytes, mode: Any) -> Any:
        return await (await self._stores[store]).put(path, data, mode)

    async def _do_upload(self, store: int, path: str, file: str, mode: Any) -> Any:
        return await (await self._stores[store]).upload(path, file, mode)

    async def _do_delete(self, store: int, paths: list[str]) -> None:
        await (await self._stores[store]).delete(paths)

    async def _do_list(self, store: int, prefix: str) -> Any:
        return await (await self._stores[store]).list(prefix)

    async def _do_fetch(
        self, store: int, path: str, begin: int, end: int, place: tuple[Any, ...], checks: bytes
    ) -> bool:
        """Whether the range was fetched: not if another process has brought it to the cache.

        `place`: (file, offset) in memory; (path, first part, parts) in the cache.
        """
        with self._sink(begin, checks, *place) as sink:
            async with sink.locked() as is_missing:
                if is_missing:
                    await (await self._stores[store]).fetch(path, begin, end, sink)
            return is_missing

    def _sink(self, begin: int, checks: bytes, file: Any, at: int, parts: int = 0) -> AbstractContextManager[PageSink]:
        if parts:
            return PageSink.on_disk(file, at, parts, begin, checks)
        return contextlib.nullcontext(PageSink(self._files[file], at - begin, begin, checks, None))

    async def _do_stats(self) -> dict[str, Any]:
        return self._counts.as_dict()


def _use_environment(variables: Mapping[str, str]) -> None:
    """Makes this process's variables those of the trainer, which may have set some since it started the helper."""
    for name in environment(os.environ).keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def main(descriptor: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's
    asyncio.run(Helper(socket.socket(fileno=descriptor)).run(parent))
