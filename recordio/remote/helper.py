"""The helper process: all network is here, so that a fork, or a busy interpreter, in the trainer never meets it.

It ends when the trainer's socket closes, or when its parent is another process than at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from datetime import UTC, datetime
from typing import Any

from recordio.remote.fetching import Connections, Counts, RequestError, Requests, request_error
from recordio.remote.messages import Incoming, encode
from recordio.remote.page_sink import PageSink
from recordio.remote.stores import obstore, open_store

_ORPHAN_SECONDS = 0.5
_REFETCHES = 3


class RemoteStore:
    """A store by its URL, and the requests to it."""

    def __init__(self, store: Any, requests: Requests, counts: Counts) -> None:
        self._obstore = obstore()
        self._store = store
        self._requests = requests
        self._counts = counts

    async def get(self, path: str, begin: int, end: int | None, most: int) -> tuple[bytes, str | None, int]:
        """Bytes of an object, its ETag and its size: the whole object if `end` is None, at most so many bytes."""

        async def attempt() -> tuple[bytes, str | None, int]:
            options: Any = {} if end is None else {"range": (begin, end)}
            found = await self._obstore.get_async(self._store, path, options=options)
            size = found.meta["size"]
            if (size if end is None else end - begin) > most:
                raise RequestError("refused", f"{size} bytes are too many: expected {most} at most")
            data = bytes(await found.bytes_async())
            _require_length(len(data), size if end is None else min(end, size) - begin)
            return data, found.meta["e_tag"], size

        return await self._requests.run(attempt)  # type: ignore[no-any-return]

    async def fetch(self, path: str, begin: int, end: int, sink: PageSink) -> None:
        """Fetches a range into the sink, again while what arrives is not what was written."""

        async def attempt() -> Any:
            options: Any = {"range": (begin, end)}
            found = await self._obstore.get_async(self._store, path, options=options)
            data = await found.bytes_async()
            _require_length(len(data), end - begin)
            return data

        for number in range(_REFETCHES + 1):
            data = await self._requests.run(attempt, end - begin)
            bad = sink.first_bad(data)
            if bad is None:
                sink.write(data)
                return
            self._counts.refetched += number < _REFETCHES
        raise RequestError("wrong", f"the bytes that arrived are not those that were written: byte {bad}")

    async def head(self, path: str) -> tuple[int, str | None]:
        found = await self._requests.run(lambda: self._obstore.head_async(self._store, path))
        return found["size"], found["e_tag"]

    async def put(self, path: str, data: bytes, mode: str) -> str | None:
        """Writes an object; mode "create", "overwrite", or the ETag of the object to replace. Its new ETag."""
        how: Any = mode if mode in ("create", "overwrite") else {"e_tag": mode}
        found = await self._requests.run(lambda: self._obstore.put_async(self._store, path, data, mode=how))
        return found["e_tag"]  # type: ignore[no-any-return]

    async def delete(self, paths: list[str]) -> None:
        await self._requests.run(lambda: self._obstore.delete_async(self._store, paths))

    async def list(self, prefix: str) -> list[list[Any]]:
        """[path, size, seconds since 1970] of every object below a prefix."""

        async def attempt() -> Any:
            return [one async for page in self._obstore.list(self._store, prefix or None) for one in page]

        found = await self._requests.run(attempt)
        return [[one["path"], one["size"], one["last_modified"].timestamp()] for one in found]


def _require_length(found: int, wanted: int) -> None:
    if found != wanted:
        raise RequestError("network", f"{found} bytes arrived, expected {wanted}")


class Helper:
    """Answers the messages of one trainer."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming = Incoming(sock)
        self._outgoing: deque[bytes] = deque()
        self._stores: dict[int, RemoteStore] = {}
        self._files: dict[int, int] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts = Counts()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        loop.add_reader(self._socket, self._read)
        parent = os.getppid()
        while not self._ended.is_set() and os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _ORPHAN_SECONDS)
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
        else:
            task = asyncio.ensure_future(self._answer(number, name, args))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, name: str, args: tuple[Any, ...]) -> None:
        try:
            self._send(number, True, await getattr(self, f"_do_{name}")(*args))
        except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
            found = request_error(error)
            self._send(number, False, found.kind, str(found))

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

    async def _do_store(self, number: int, url: str, options: dict[str, Any], environment: dict[str, str]) -> None:
        os.environ.update(environment)
        provider = self._provider(number) if options["credentials"] else None
        store = open_store(url, options, provider)
        requests = Requests(self._counts, Connections(options["max_connections"]), options["retry_seconds"])
        self._stores[number] = RemoteStore(store, requests, self._counts)

    def _provider(self, store: int) -> Any:
        async def provide() -> Any:
            number = len(self._asked) + 1
            self._asked[number] = asyncio.get_running_loop().create_future()
            self._send(0, "credentials", number, store)
            found, error = await self._asked[number]
            if error is not None:
                raise RequestError("denied", f"the credentials function has failed: {error}")
            expires = found.get("expires_at")
            return found | {"expires_at": None if expires is None else datetime.fromtimestamp(expires, UTC)}

        return provide

    async def _do_get(self, store: int, path: str, begin: int, end: int | None, most: int) -> Any:
        return await self._stores[store].get(path, begin, end, most)

    async def _do_head(self, store: int, path: str) -> Any:
        return await self._stores[store].head(path)

    async def _do_put(self, store: int, path: str, data: bytes, mode: str) -> Any:
        return await self._stores[store].put(path, data, mode)

    async def _do_delete(self, store: int, paths: list[str]) -> None:
        await self._stores[store].delete(paths)

    async def _do_list(self, store: int, prefix: str) -> Any:
        return await self._stores[store].list(prefix)

    async def _do_fetch(
        self, store: int, path: str, begin: int, end: int, target: int, at: int, flags: Any, checks: bytes
    ) -> None:
        present = None if flags is None else (self._files[flags[0]], flags[1], flags[2])
        sink = PageSink(self._files[target], at - begin, begin, checks, present)
        async with sink.locked() as is_missing:
            if is_missing:
                await self._stores[store].fetch(path, begin, end, sink)

    async def _do_stats(self) -> dict[str, Any]:
        return self._counts.as_dict()


def main(descriptor: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's
    asyncio.run(Helper(socket.socket(fileno=descriptor)).run())


if __name__ == "__main__":
    main(int(sys.argv[1]))
