"""Memory that processes share: it grows, it never leaks, and objects go through it as they are."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recordio.errors import StorageError
from recordio.reader.workers.slots import LARGE_NBYTES, Region, SharedMemory, Slot, load
from tests.open_files import descriptors
from tests.processes_seen import left_as_found
from tests.reader.workers import makers

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of fork, from Python 3.12 on
MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    with left_as_found(descriptors):
        yield


def test_memory_grows_and_keeps_its_contents() -> None:
    memory = SharedMemory()
    first = memory.reserve(5)
    first[:5] = b"hello"
    old = np.frombuffer(first, np.uint8)
    assert memory.reserve(3) is first
    assert len(first) == 2 * MIB
    second = memory.reserve(9 * MIB)
    assert len(second) == 10 * MIB
    assert second[:5] == b"hello"
    second[:5] = b"world"
    assert old[:5].tobytes() == b"world"
    assert len(memory.reserve(1)) == 10 * MIB


def test_zero_bytes_can_be_reserved() -> None:
    assert len(SharedMemory().reserve(0)) == 2 * MIB


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only where memory can do without a name")
def test_memory_has_no_name() -> None:
    before = os.listdir("/dev/shm")
    memory = SharedMemory()
    memory.reserve(MIB)
    assert os.listdir("/dev/shm") == before
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert [line for line in maps if "/memfd:recordio (deleted)" in line]


def test_fallback_file_has_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    memory = SharedMemory()
    memory.reserve(MIB)[:5] = b"hello"
    assert memory.reserve(3 * MIB)[:5] == b"hello"
    assert list(tmp_path.iterdir()) == []


def test_shared_memory_is_pickled_only_while_a_process_starts() -> None:
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(SharedMemory())


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_see_each_others_writes_and_growth(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    memory = SharedMemory()
    memory.reserve(5)[:5] = b"hello"
    child = context.Process(target=makers.answer, args=(memory, 5 * MIB))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    child.close()
    assert memory.view(5 * MIB)[5 * MIB - 10 : 5 * MIB] == b"hellohello"


def test_arrays_outlive_the_shared_memory() -> None:
    memory = SharedMemory()
    array = np.frombuffer(memory.reserve(1000), np.uint8)
    array[:] = 7
    memory.close()
    memory.close()
    del memory
    assert (array == 7).all()


@pytest.mark.parametrize("nbytes", [1 << 48, 1 << 62, 1 << 63, 1 << 80])
def test_memory_that_the_system_refuses_raises(nbytes: int) -> None:
    memory = SharedMemory()
    with pytest.raises(StorageError, match=f"cannot get {nbytes} bytes of shared memory"):
        memory.reserve(nbytes)


def test_viewing_more_than_was_reserved_raises() -> None:
    memory = SharedMemory()
    memory.reserve(2 * MIB)
    with pytest.raises(StorageError, match="shared memory"):
        memory.view(2 * MIB + 1)
    assert len(memory.view(2 * MIB)) == 2 * MIB


# Regions


def fill(region: Region, nbytes: int, value: int) -> None:
    np.frombuffer(region.reserve(nbytes), np.uint8, nbytes, region.start)[:] = value


def holds(region: Region, nbytes: int, value: int) -> bool:
    return bool(
        (np.frombuffer(region.memory.view(region.start + nbytes), np.uint8, nbytes, region.start) == value).all()
    )


def resident(memory: SharedMemory) -> int:
    return os.fstat(memory._descriptor).st_blocks * 512


def test_regions_share_a_memory_and_few_descriptors() -> None:
    memory, before = SharedMemory(), descriptors()
    regions = [Region(memory) for _ in range(200)]
    kept = []
    for n, region in enumerate(regions):
        fill(region, 1000 + n, n)
        kept.append(np.frombuffer(region.reserve(1), np.uint8))  # as a window does
    assert all(holds(region, 1000 + n, n) for n, region in enumerate(regions))
    assert len({region.start for region in regions}) == 200
    assert descriptors() - before <= 10  # the memory doubles, and each of its sizes stays mapped


def test_a_single_region_is_all_of_its_memory_and_grows_in_place() -> None:
    memory = SharedMemory()
    region = Region(memory)
    fill(region, 3 * MIB, 7)
    assert len(region.reserve(5 * MIB)) == 6 * MIB
    assert region.start == 0
    assert holds(region, 3 * MIB, 7)


def test_the_memory_of_an_outgrown_region_is_freed() -> None:
    memory = SharedMemory()
    first, second = Region(memory), Region(memory)
    fill(first, 2 * MIB, 1)
    fill(second, 2 * MIB, 2)
    for mib in range(4, 40, 4):
        fill(first, mib * MIB, 3)
        fill(second, mib * MIB, 4)
        assert holds(first, mib * MIB, 3)
        assert holds(second, mib * MIB, 4)
        assert resident(memory) <= 2 * mib * MIB + MIB


def test_a_region_that_cannot_grow_stays_as_it_was() -> None:
    memory = SharedMemory()
    first, second = Region(memory), Region(memory)
    fill(first, 1000, 1)
    fill(second, 1000, 2)
    for region in (first, second):
        with pytest.raises(StorageError, match="shared memory"):
            region.reserve(1 << 62)
    assert holds(first, 1000, 1)
    assert holds(second, 1000, 2)
    fill(first, 3 * MIB, 3)
    assert holds(second, 1000, 2)


LIMITED = """
import resource
from recordio.errors import StorageError
from recordio.reader.workers.slots import SharedMemory

memory = SharedMemory()
memory.reserve(1000)[:5] = b"hello"
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20), hard))
try:
    memory.reserve(1 << 30)
except StorageError as error:
    print(error)
assert memory.reserve(1000)[:5] == b"hello"
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
memory.reserve(8 << 20)[:5] = b"hello"
try:
    memory.reserve(9 << 20)
except StorageError as error:
    print(error)
assert memory.reserve(8 << 20)[:5] == b"hello"
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    SharedMemory()
except StorageError as error:
    print(error)
"""


def test_system_limits_raise() -> None:
    out = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True, timeout=60)
    assert "bytes of shared memory: [Errno 12] Cannot allocate memory" in out.stdout
    assert "bytes of shared memory: [Errno 27] File too large" in out.stdout
    assert "cannot get shared memory: [Errno 24] Too many open files" in out.stdout


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        same = type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
        return same and bool((np.asarray(one) == np.asarray(other)).all())
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    return bool(one == other)


LARGE = np.arange(300_000)
OBJECTS: dict[str, Any] = {
    "nothing": None,
    "text": {"text": ["", "a", "ß" * 100_000], "data": [b"", b"\0" * 100_000], 3: (1, 2.5)},
    "empty arrays": {"a": np.zeros(0), "b": np.zeros((0, 5), np.float32), "c": LARGE},
    "a scalar": np.array(5),
    "large arrays": {"x": LARGE.astype(np.float32), "y": LARGE[::-1].astype(">i4"), "z": np.ones(MIB, bool)},
    "columns first": np.asfortranarray(LARGE.reshape(100, 3000)),
    "every third": LARGE[::3],
    "records": np.zeros(50_000, [("a", "<u8"), ("b", "S3")]),
    "times": LARGE.astype("datetime64[s]"),
    "objects": np.array([None, "x", LARGE], object)[:2],
    "masked": np.ma.masked_array(LARGE, LARGE % 3 == 0),
    "many": [np.full(LARGE_NBYTES + n, n, np.uint8) for n in range(40)],
}


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("name", OBJECTS)
def test_slot_round_trip(name: str, copy: bool) -> None:
    slot, value = Slot(), OBJECTS[name]
    slot.put("what was there before")
    slot.put(value)
    found = load(slot.contents(), copy)
    assert all(map(equal, value, found)) if name == "many" else equal(value, found)
    if isinstance(found, np.ma.MaskedArray):
        assert (found.mask == value.mask).all()


def lies_in(array: Any, slot: Slot) -> bool:
    return np.shares_memory(array, np.frombuffer(slot.view(1), np.uint8))


def test_only_large_arrays_lie_in_the_slot() -> None:
    slot = Slot()
    slot.put({"large": np.zeros(LARGE_NBYTES, np.uint8), "small": np.zeros(LARGE_NBYTES - 1, np.uint8)})
    found = load(slot.contents(), copy=False)
    assert lies_in(found["large"], slot)
    assert not lies_in(found["small"], slot)
    assert not lies_in(load(slot.contents(), copy=True)["large"], slot)


def test_large_array_from_empty_is_not_copied() -> None:
    slot = Slot()
    column = slot.empty((2, LARGE_NBYTES), np.uint8)
    column[:] = 1
    slot.put({"column": column, "other": LARGE})
    column[:] = 2
    found = load(slot.contents(), copy=False)
    assert (found["column"] == 2).all()
    assert equal(found["other"], LARGE)
    assert not lies_in(slot.empty((LARGE_NBYTES - 1,), np.uint8), slot)
    assert slot.empty((LARGE_NBYTES,), object)[0] is None


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_arrays_from_empty_and_others_may_be_mixed(seed: int, copy: bool) -> None:
    """Some are dropped, memory is mapped anew as the slot grows, and some objects cannot be put."""
    slot, rng = Slot(), np.random.default_rng(seed)
    for _ in range(4):
        value: list[Any] = []
        for _ in range(rng.integers(1, 12)):
            make = slot.empty if rng.random() < 0.7 else np.empty
            shape = int(rng.integers(1, 40)), 1 << int(rng.integers(10, 16))
            array = make(shape, ["<u8", "<f4", "<M8[s]"][rng.integers(3)])
            array[:] = rng.integers(0, 1 << 30)
            if rng.random() < 0.7:
                value.append([array, array.T, array[1:], array[:, ::2]][rng.integers(4)])
        if rng.random() < 0.2:
            with pytest.raises(TypeError, match="lock"):
                slot.put([*value, threading.Lock()])
        else:
            slot.put(value)
            assert all(map(equal, load(slot.contents(), copy), value))


@pytest.mark.parametrize("copy", [False, True])
def test_loaded_arrays_are_writeable(copy: bool) -> None:
    slot = Slot()
    slot.put([np.zeros(LARGE_NBYTES + 1, np.uint8), np.zeros(LARGE_NBYTES), np.zeros(3)])
    for array in load(slot.contents(), copy):
        array[:] = 1
        assert (array == 1).all()


def test_arrays_in_the_slot_are_aligned() -> None:
    slot = Slot()
    slot.put([np.zeros(LARGE_NBYTES + n, np.uint8) for n in range(5)])
    assert [array.ctypes.data % 64 for array in load(slot.contents(), copy=False)] == [0] * 5


def test_read_only_array_stays_read_only() -> None:
    slot, array = Slot(), np.zeros(LARGE_NBYTES)
    array.flags.writeable = False
    slot.put(array)
    assert not load(slot.contents(), copy=False).flags.writeable


def test_each_loaded_array_keeps_the_contents_alive() -> None:
    slot = Slot()
    slot.put({"x": LARGE.reshape(-1, 3), "small": np.arange(3)})
    contents = slot.contents()
    alive = [contents]
    weakref.finalize(contents, alive.append, contents.nbytes)
    found = load(contents, copy=False)
    alive.clear()
    del contents
    kept = torch.from_numpy(found["x"])[5:, 1]
    small = found["small"]
    del found
    assert not alive
    del kept
    assert alive
    assert small.tolist() == [0, 1, 2]


def test_slot_survives_an_object_that_cannot_be_pickled() -> None:
    slot = Slot()
    with pytest.raises(TypeError, match="lock"):
        slot.put(threading.Lock())
    slot.put(5)
    assert load(slot.contents(), copy=False) == 5


def test_tensors_lie_in_the_slot() -> None:
    slot, tensor = Slot(), torch.arange(100_000).reshape(-1, 5)
    slot.put({"t": tensor, "s": torch.ones(3), "columns": tensor.T})
    found = load(slot.contents(), copy=False)
    assert lies_in(found["t"].numpy(), slot)
    assert torch.equal(found["t"], tensor)
    assert torch.equal(found["s"], torch.ones(3))
    assert torch.equal(found["columns"], tensor.T)
    found["t"][0, 0] = 9


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(5, dtype=torch.bfloat16),
        torch.ones(5, requires_grad=True),
        torch.nn.Parameter(torch.ones(5)),
        torch.ones(5, dtype=torch.complex64).conj(),
        torch.ones(5).to_sparse(),
    ],
    ids=["bfloat16", "gradient", "parameter", "conjugate", "sparse"],
)
def test_special_tensors_survive_the_round_trip(tensor: torch.Tensor) -> None:
    slot = Slot()
    slot.put(tensor)
    found = load(slot.contents(), copy=False)
    assert (type(found), found.dtype, found.requires_grad) == (type(tensor), tensor.dtype, tensor.requires_grad)
    assert torch.equal(found.to_dense(), tensor.to_dense())
