"""The helper process: all network is here, so that a fork, or a busy interpreter, in the trainer never meets it.

It ends when the trainer's socket closes, or when its parent is another process than at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from recordio.remote.credentials import credentials_of, environment
from recordio.remote.fetching import Counts, Requests
from recordio.remote.hugging_face_hub import MOST_CONNECTIONS
from recordio.remote.messages import Incoming, encode
from recordio.remote.page_sink import PageSink
from recordio.remote.remote_store import RemoteStore
from recordio.remote.request_errors import request_error
from recordio.remote.stores import open_store
from recordio.remote.urls import shown
from recordio.storage.machine import allow_many_files, share_of_files

_LOOK_SECONDS = 0.5  # from one look for the trainer, and one sign of life, to the next
_FILES = 8  # of this process, for each connection: two fetches have two each open, and there is its socket


class Helper:
    """Answers the messages of one trainer."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming = Incoming(sock)
        self._outgoing = bytearray()
        self._stores: dict[int, asyncio.Future[RemoteStore]] = {}
        self._files: dict[int, int] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._counts = Counts()
        self._turns = asyncio.Semaphore(share_of_files(_FILES))  # for fetches of all stores, beside those of each
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
        try:
            for message in self._incoming.messages():
                self._handle(*message)
        except Exception:
            self._ended.set()  # whatever is lost, the trainer waits for nothing
            raise

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
        """All that is to be sent in one turn of the loop goes at once: the trainer wakes up once for it."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._write)
        self._outgoing += encode(*message)

    def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing)
            except BlockingIOError:
                loop.add_writer(self._socket, self._write)
                return
            except OSError:
                self._ended.set()
                return
            del self._outgoing[:sent]
        loop.remove_writer(self._socket)

    async def _open(self, number: int, url: str, options: dict[str, Any], variables: dict[str, str]) -> RemoteStore:
        _use_environment(variables)
        provider = self._provider(number, urlsplit(url).scheme) if options["credentials"] else None
        most = MOST_CONNECTIONS if url.startswith("hf:") else share_of_files(_FILES)
        options["max_connections"] = min(options["max_connections"], most)
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
    ) -> int:
        """How many bytes of the range were fetched: not those that another process has brought to the cache.

        `place`: (file, offset) in memory; (path, first part, parts) in the cache.
        """
        opened = await self._stores[store]
        async with opened.turns, self._turns:
            with self._sink(begin, end, checks, *place) as sink:
                async with sink.locked() as missing:
                    for part in missing:
                        await opened.fetch(path, part)
                return sum(part.end - part.begin for part in missing)

    def _sink(
        self, begin: int, end: int, checks: bytes, file: Any, at: int, parts: int = 0
    ) -> AbstractContextManager[PageSink]:
        if parts:
            return PageSink.on_disk(file, at, parts, begin, end, checks)
        return contextlib.nullcontext(PageSink(self._files[file], at - begin, begin, end, checks, None))

    async def _do_stats(self) -> dict[str, Any]:
        return self._counts.as_dict()


def _use_environment(variables: Mapping[str, str]) -> None:
    """Makes this process's variables those of the trainer, which may have set some since it started the helper."""
    for name in environment(os.environ).keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def main(descriptor: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's
    allow_many_files()
    asyncio.run(Helper(socket.socket(fileno=descriptor)).run(parent))
