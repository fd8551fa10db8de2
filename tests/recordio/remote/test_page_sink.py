"""What of a range is fetched when another process has brought some of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from recordio.format.checksum import checksum
from recordio.remote import page_sink
from recordio.remote.page_sink import CHECK, MAX_GAP, PageSink
from recordio.remote.shard_cache import CachedShard

PAGE, HEADER = MAX_GAP + 8, 64  # of each part: its page, with a block's header before it


def shard_of(folder: Path, parts: int) -> tuple[CachedShard, bytes, bytes]:
    """A shard of so many pages in the cache, with nothing present; its bytes, and the checks of its pages."""
    content = np.random.default_rng(parts).bytes(parts * (HEADER + PAGE))
    begins = [k * (HEADER + PAGE) + HEADER for k in range(parts)]
    checks = b"".join(CHECK.pack(begin, PAGE, checksum(content[begin : begin + PAGE])) for begin in begins)
    return CachedShard(str(folder / "shard"), len(content), parts), content, checks


def fetched(shard: CachedShard, content: bytes, parts: int, checks: bytes) -> list[tuple[int, int]]:
    """Fetches all that is missing: the ranges that were asked for."""

    async def fetch() -> list[tuple[int, int]]:
        with PageSink.on_disk(shard.path, 0, parts, 0, len(content), checks) as sink:
            async with sink.locked() as missing:
                for one in missing:
                    data = content[one.begin : one.end]
                    assert one.first_bad(data) is None
                    one.write(data)
                return [(one.begin, one.end) for one in missing]

    return asyncio.run(fetch())


@pytest.mark.parametrize("present", ["", "0", "4", "2", "01", "34", "024", "13", "1234", "0123", "01234"])
def test_only_missing_runs_are_fetched(tmp_path: Path, present: str) -> None:
    shard, content, checks = shard_of(tmp_path, 5)
    first = [int(one) for one in present]
    for part in first:
        begin, behind = part * (HEADER + PAGE), (part + 1) * (HEADER + PAGE)
        with PageSink.on_disk(shard.path, part, 1, begin, behind, checks[part * CHECK.size :][: CHECK.size]) as sink:
            sink.write(content[begin:behind])
    ranges = fetched(shard, content, 5, checks)
    missing = 5 - len(first)
    # A run may begin and end with the header of a block that is present.
    assert missing * (HEADER + PAGE) <= sum(end - begin for begin, end in ranges) <= missing * (2 * HEADER + PAGE)
    assert shard.present(0, 5).all()
    found = bytearray(len(content))
    assert shard.read(memoryview(found), 0)
    assert found == content
    assert fetched(shard, content, 5, checks) == []


def test_runs_with_little_between_them_are_fetched_at_once(tmp_path: Path) -> None:
    content, parts = bytes(range(250)), 25
    shard = CachedShard(str(tmp_path / "shard"), len(content), parts)
    checks = b"".join(CHECK.pack(10 * k, 10, checksum(content[10 * k : 10 * k + 10])) for k in range(parts))
    with PageSink.on_disk(shard.path, 10, 5, 100, 150, checks[10 * CHECK.size : 15 * CHECK.size]) as sink:
        sink.write(content[100:150])
    assert fetched(shard, content, parts, checks) == [(0, 250)]


def test_what_has_no_pages_is_fetched_as_a_whole(tmp_path: Path) -> None:
    """Header, index, or all pages while the index is not known."""
    shard = CachedShard(str(tmp_path / "shard"), 100, 3)
    with PageSink.on_disk(shard.path, 0, 1, 0, 10, b"") as sink:
        sink.write(bytes(10))
    assert fetched(shard, bytes(100), 3, b"") == [(0, 100)]
    assert fetched(shard, bytes(100), 3, b"") == []


def test_a_range_whose_lock_a_suspended_job_holds_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_sink, "_PATIENCE", 0.1)
    shard, content, checks = shard_of(tmp_path, 3)

    async def fetch_while_held() -> list[tuple[int, int]]:
        with PageSink.on_disk(shard.path, 0, 3, 0, len(content), checks) as sink:
            async with sink.locked():
                return await asyncio.to_thread(fetched, shard, content, 3, checks)

    assert asyncio.run(fetch_while_held()) == [(0, len(content))]
    assert shard.present(0, 3).all()
