"""Each fault of a server on each part of a dataset: the right bytes, or an error of ours, in time."""

from __future__ import annotations

import pytest

from recordio import CorruptError, DatasetError, RecordIOError, StorageError
from tests.effort import LONG
from tests.recordio.remote.faulty_server import FOREVER, MODES, FaultyServer
from tests.recordio.remote.stored_dataset import COUNT, QUICK, SHARD, Stored, numbers

pytestmark = pytest.mark.timeout(20)
PARTS = ("manifest", "header", "index", "page")
RIGHT = list(range(COUNT))
# Faults that do not pass by themselves: asking again would be of no use, or wrong.
LASTING = {"denied", "expired", "expired-400", "skewed", "signature", "401", "missing", "no-bucket", "region", "416"}
OF_RANGES = {"ignore-range", "wrong-range", "no-range"}
ONE_OF_EACH_KIND = {"503", "denied", "missing", "hang", "cut", "corrupt", "no-range"}
HARMLESS = {"no-etag", "weak-etag", "other-etag"}


@pytest.mark.parametrize("mode", MODES)
def test_a_fault_of_each_part_that_passes(mode: str, server: FaultyServer, stored: Stored) -> None:
    for name, byte in stored.parts.values():
        server.fail(mode, f"data/{name}", 1, byte)
    if mode in LASTING:
        with pytest.raises(RecordIOError):
            numbers(server.dataset, QUICK)
    else:
        assert numbers(server.dataset, QUICK) == RIGHT


@pytest.mark.parametrize("mode", MODES)
def test_a_fault_that_stays(mode: str, server: FaultyServer, stored: Stored) -> None:
    for part in PARTS if LONG or mode in ONE_OF_EACH_KIND else ("manifest", "page"):
        name, byte = stored.parts[part]
        server.clear()
        server.fail(mode, f"data/{name}", FOREVER, byte)
        if mode in HARMLESS or (part == "manifest" and mode in OF_RANGES):
            assert numbers(server.dataset, QUICK) == RIGHT
        else:
            _require_good_error(server.dataset)
        assert len(server.asked(f"data/{name}")) < 30


def _require_good_error(url: str) -> None:
    with pytest.raises((StorageError, CorruptError, DatasetError)) as caught:
        numbers(url, {"retry_seconds": 0.2, "timeout_seconds": 0.1})
    text = str(caught.value)
    assert "\n" not in text
    assert "Debug source" not in text


def test_damage_that_stays_names_its_place(server: FaultyServer, stored: Stored) -> None:
    name, byte = stored.parts["page"]
    server.fail("corrupt", f"data/{name}", FOREVER, byte)
    with pytest.raises(CorruptError, match="4 times") as caught:
        numbers(server.dataset, QUICK)
    place = caught.value.place
    assert (place.file, place.dataset) == (SHARD, server.dataset)
    assert place.block is not None
    assert place.field in ("x", "number")
    assert place.byte is not None
