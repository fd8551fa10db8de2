"""Memory that processes share, and slots in it that carry one object at a time.

The memory has no name, so nothing can be left behind: the kernel frees it when the last process that holds it ends, in
whatever way. It does not count against the size of /dev/shm.
"""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import os
import pickle
import struct
import tempfile
import weakref
from multiprocessing import reduction
from multiprocessing.context import assert_spawning
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import StorageError
from recordio.format.layout import padded
from recordio.reader.workers.transport import TensorPickler

_HUGE = 2 << 20
_NUMBER = struct.Struct("<Q")
LARGE_NBYTES = 64 << 10  # smaller arrays travel in the pickle: that is as quick, and they keep no slot in use

Contents = npt.NDArray[np.uint8]


class SharedMemory:
    """Anonymous memory that a process shares with its children.

    It can be pickled only while a child process is started, by any start method. Both sides may write, but only one at
    a time may `reserve`.

    Attributes:
        regions_end: where its regions end.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = _anonymous_file() if descriptor is None else descriptor
        self._memory: mmap.mmap | None = None
        self.regions_end = 0
        self._close = weakref.finalize(self, os.close, self._descriptor)

    def reserve(self, nbytes: int) -> mmap.mmap:
        """Memory of at least that size, with its contents. Arrays in memory from earlier calls stay valid.

        Raises StorageError.
        """
        return self._mapped(max(nbytes, 1), grow=True)

    def view(self, nbytes: int) -> mmap.mmap:
        """The memory, after the other side has reserved at least that size. Raises StorageError."""
        return self._mapped(max(nbytes, 1), grow=False)

    def _mapped(self, nbytes: int, grow: bool) -> mmap.mmap:
        if self._memory is None or len(self._memory) < nbytes:
            self._memory = None
            size = os.fstat(self._descriptor).st_size
            try:
                if grow and size < nbytes:
                    os.ftruncate(self._descriptor, -(-nbytes // _HUGE) * _HUGE)
                self._memory = mmap.mmap(self._descriptor, max(nbytes, os.fstat(self._descriptor).st_size))
            except (OSError, OverflowError, ValueError) as error:
                if grow:  # keep the old size: the error message must still fit
                    os.ftruncate(self._descriptor, size)
                raise StorageError(f"cannot get {nbytes} bytes of shared memory: {error}") from error
            if hasattr(mmap, "MADV_HUGEPAGE"):
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        return self._memory

    def free(self, begin: int, end: int) -> None:
        """Gives that part back to the system, where it can be. It is zero from then on."""
        if self._memory is not None and begin < end and hasattr(mmap, "MADV_REMOVE"):
            with contextlib.suppress(OSError):
                self._memory.madvise(mmap.MADV_REMOVE, begin, end - begin)

    def close(self) -> None:
        """Releases the memory; arrays in it stay valid."""
        self._memory = None
        self._close()

    def __reduce__(self) -> tuple[Any, ...]:
        assert_spawning(self)
        return _received, (type(self), reduction.DupFd(self._descriptor))


class Region:
    """A part of shared memory that grows: for one window after another.

    A memory takes descriptors, of which a process has few, so many regions share one. The last of them grows in place.
    Used by one thread of one process, which tells the others where the region begins.

    Attributes:
        memory: the shared memory.
        start: where the region begins in it, after `reserve`.
    """

    def __init__(self, memory: SharedMemory) -> None:
        self.memory = memory
        self.start = self._end = 0

    def reserve(self, nbytes: int) -> mmap.mmap:
        """The shared memory, with at least that size from `start` on. The contents are undefined.

        Raises StorageError.
        """
        if self._end - self.start < nbytes:
            self._grow(-(-nbytes // _HUGE) * _HUGE)
        return self.memory.reserve(self._end)

    def _grow(self, nbytes: int) -> None:
        memory, start = self.memory, self.start
        if self._end < memory.regions_end:
            start = memory.regions_end
        end = start + nbytes
        # A memory of several regions doubles: each of its maps stays open while there are arrays in it.
        memory.reserve(1 << end.bit_length() if start else end)
        if start > self.start:
            memory.free(self.start, self._end)
        self.start, self._end, memory.regions_end = start, end, end


def _anonymous_file() -> int:
    try:
        if hasattr(os, "memfd_create"):
            return os.memfd_create("recordio", os.MFD_CLOEXEC)
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot get shared memory: {error}") from error


def _received(kind: type[SharedMemory], descriptor: Any) -> SharedMemory:
    return kind(descriptor.detach())


class Slot(SharedMemory):
    """Shared memory that carries one object at a time.

    It begins with the offset of a table: the number of buffers, then the start and the size of each. The first buffer
    is a pickle, the others are the memory of its large arrays.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        super().__init__(descriptor)
        self._arrays: dict[int, tuple[int, npt.NDArray[Any]]] = {}  # by address: start and array
        self._end = _NUMBER.size  # of the arrays

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array for the next object. A large one lies in the slot, so that `put` need not copy it.

        Raises StorageError.
        """
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < LARGE_NBYTES or dtype.hasobject:
            return np.empty(shape, dtype)
        start = padded(self._end)
        array: npt.NDArray[Any] = np.ndarray(shape, dtype, self.reserve(start + nbytes), start)
        self._arrays[_address(array)] = start, array
        self._end = start + nbytes
        return array

    def put(self, value: Any) -> None:
        """Writes an object over the one before. Raises what pickling it does, and StorageError."""
        arrays, self._arrays = self._arrays, {}
        end, self._end = self._end, _NUMBER.size
        large: list[memoryview] = []

        def is_small(buffer: pickle.PickleBuffer) -> bool:
            memory = buffer.raw()
            if memory.nbytes >= LARGE_NBYTES:
                large.append(memory)
            return memory.nbytes < LARGE_NBYTES

        file = io.BytesIO()
        TensorPickler(file, 5, buffer_callback=is_small).dump(value)
        buffers = [file.getbuffer(), *large]
        table, end = end, end + _NUMBER.size * (1 + 2 * len(buffers))
        spans: list[int] = []
        to_copy: list[tuple[int, memoryview]] = []
        for buffer in buffers:
            start, array = arrays.get(_address(buffer), (padded(end), None))
            if array is None:
                to_copy.append((start, buffer))
                end = start + buffer.nbytes
            spans += start, buffer.nbytes
        target = memoryview(self.reserve(end))
        _NUMBER.pack_into(target, 0, table)
        struct.pack_into(f"<{1 + len(spans)}Q", target, table, len(buffers), *spans)
        for start, buffer in to_copy:
            target[start : start + buffer.nbytes] = buffer

    def contents(self) -> Contents:
        """The memory that the last object uses. The arrays that `load` finds in it keep it alive."""
        (table,) = _NUMBER.unpack_from(self.view(_NUMBER.size))
        (count,) = _NUMBER.unpack_from(self.view(table + _NUMBER.size), table)
        spans = _spans(self.view(table + _NUMBER.size * (1 + 2 * count)))
        end = max(start + size for start, size in spans)
        return np.frombuffer(self.view(end), np.uint8, end)


def load(contents: Contents, copy: bool) -> Any:
    """The object in a slot. Its large arrays stay in the slot, or with `copy` get memory of their own.

    An array is writeable if it was so when it was put. Raises what unpickling does.
    """
    stream, *large = (contents[start : start + size] for start, size in _spans(contents.data))
    return pickle.loads(stream.data, buffers=[array.copy() for array in large] if copy else large)


def _spans(memory: mmap.mmap | memoryview) -> list[tuple[int, int]]:
    """(start, size) of each buffer, from the table."""
    (table,) = _NUMBER.unpack_from(memory)
    (count,) = _NUMBER.unpack_from(memory, table)
    numbers = struct.unpack_from(f"<{2 * count}Q", memory, table + _NUMBER.size)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _address(memory: memoryview | npt.NDArray[Any]) -> int:
    address: int = np.asarray(memory).__array_interface__["data"][0]
    return address
