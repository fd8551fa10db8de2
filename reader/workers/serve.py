"""A worker process of a pool: reads requests from slots, and puts the batches in their place."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from time import perf_counter_ns
from typing import Any

from recordio.pickling import DeferredPickle
from recordio.process_guard import begin_child
from recordio.reader.workers.slots import Slot, load
from recordio.reader.workers.transport import Failure

SLOT_NUMBER = struct.Struct("<I")  # the only message in the pipes between a pool and its workers


def serve(
    number: int, pipe: Connection, slots: Sequence[Slot], work: DeferredPickle, inherited: Sequence[Connection]
) -> None:
    """The main loop of a worker."""
    for end in inherited:
        end.close()
    begin_child()
    server = _Server(number, work)
    while True:
        try:
            slot = pipe.recv_bytes()
        except (EOFError, OSError):  # the parent has closed the pool
            return
        server.answer(slots[SLOT_NUMBER.unpack(slot)[0]])
        with contextlib.suppress(OSError):
            pipe.send_bytes(slot)


class _Server:
    """A worker in its own process. After a failed start or a lost message it answers every request with the failure."""

    def __init__(self, number: int, work: DeferredPickle) -> None:
        self._number, self._work = number, work
        self._make: Any = None
        self._packing = 0  # nanoseconds that the batch before took to be put into its slot
        self._broken = self._failure(self._open)

    def answer(self, slot: Slot) -> None:
        """Replaces the request in the slot by its batch, or by the failure."""
        messages, request = load(slot.contents(), copy=True)
        self._broken = self._broken or self._failure(self._receive, messages)
        failure = self._broken or self._failure(self._put_batch, slot, request)
        if failure is not None:
            slot.put(failure)

    def _failure(self, action: Callable[..., None], *arguments: Any) -> Failure | None:
        try:
            action(*arguments)
        except Exception as error:  # noqa: BLE001 the parent raises it
            return Failure.of(error, f"worker {self._number}")
        return None

    def _open(self) -> None:
        self._make, init = self._work.open()
        if init is not None:
            init(self._number)

    def _receive(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self._make.receive(self._work.loads(message))

    def _put_batch(self, slot: Slot, request: bytes) -> None:
        batch = self._make(self._work.loads(request), slot.empty)
        began = perf_counter_ns()
        slot.put((batch, self._packing))
        self._packing = perf_counter_ns() - began
