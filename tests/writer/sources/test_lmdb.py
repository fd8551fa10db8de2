"""LMDB: every entry comes out as the library wrote it, and no pointer of a false file is followed out of it."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from recordio import Bytes, ShardDataset, SourceError, Text
from recordio.writer.sources import find_sources, open_source
from tests.writer.convert.test_convert import contents, made
from tests.writer.sources.test_folders import fill, samples

DATA = Path(__file__).parents[2] / "data/formats/lmdb"
LENGTHS: dict[str, int] = json.loads((DATA / "expected.json").read_text("utf-8"))
EXPECTED = [
    {"key": key, "data": (key.encode() * length)[:length]}
    for key, length in sorted(LENGTHS.items(), key=lambda pair: pair[0].encode())
]
PAGE = 4096


def stored(name: str) -> bytes:
    return gzip.decompress((DATA / f"{name}.mdb.gz").read_bytes())


def folder(root: Path, name: str = "plain") -> Path:
    return Path(fill(root / name, {"data.mdb": stored(name), "lock.mdb": b"\0" * 64}))


class TestEntries:
    def test_an_environment_is_read_in_the_order_of_its_keys(self, tmp_path: Path) -> None:
        (spec,) = find_sources(folder(tmp_path)).values()
        source = pickle.loads(pickle.dumps(open_source(spec.path, spec.kind, spec.options)))
        assert (source.kind, dict(source.schema)) == ("lmdb", {"key": Text(), "data": Bytes()})
        assert samples(source) == EXPECTED
        assert source.key(1) == "data.mdb key '00001-é'"
        assert source.nbytes().tolist() == [len(row["data"]) for row in EXPECTED]

    @pytest.mark.parametrize("name", ["data.mdb", "a.lmdb"])
    def test_a_single_file_is_read_too(self, tmp_path: Path, name: str) -> None:
        assert samples(open_source(fill(tmp_path, {name: stored("plain")}) + f"/{name}")) == EXPECTED

    def test_the_only_named_database_is_read(self, tmp_path: Path) -> None:
        found = samples(open_source(folder(tmp_path, "named")))
        assert found == [{"key": "a", "data": b"aaa"}, {"key": "b", "data": b"b" * 5000}]

    def test_of_several_databases_none_is_chosen(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"2 databases in it \('one', 'two'\)"):
            open_source(folder(tmp_path, "several"))

    def test_folders_of_environments_are_splits(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {f"{split}_lmdb/data.mdb": stored("named") for split in ("train", "val")})
        assert {split: spec.kind for split, spec in find_sources(root).items()} == {"train": "lmdb", "val": "lmdb"}

    @pytest.mark.slow
    def test_any_number_of_workers_makes_the_same_bytes(self, tmp_path: Path) -> None:
        source = folder(tmp_path / "in")
        for workers in (1, 2, 5):
            made(source, tmp_path / f"{workers}", workers=workers, shard_bytes=16384)
        assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")
        assert list(ShardDataset(tmp_path / "5")) == EXPECTED

    def test_what_the_library_writes_now_is_read(self, tmp_path: Path) -> None:
        lmdb = pytest.importorskip("lmdb")
        rows = {
            struct.pack(">I", n) + b"\xff": b"\x80\x04" + bytes(n) for n in random.Random(1).sample(range(9000), 50)
        }
        with lmdb.open(str(tmp_path / "db"), map_size=1 << 24) as env, env.begin(write=True) as transaction:
            for key, value in rows.items():
                transaction.put(key, value)
        source = open_source(tmp_path / "db")
        assert samples(source) == [{"key": key, "data": rows[key]} for key in sorted(rows)]
        assert source.notes == (
            "the values look like pickles, which are never loaded: 'data' holds their bytes, as they are",
            "some keys are no UTF-8, so 'key' holds bytes",
        )


def _changed(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


def _newer_meta(data: bytes) -> int:
    """Where the valid meta page begins."""
    first, second = (struct.unpack_from("<Q", data, page * PAGE + 144)[0] for page in (0, 1))
    return PAGE if second > first else 0


def _root(data: bytes) -> int:
    return int(struct.unpack_from("<Q", data, _newer_meta(data) + 128)[0]) * PAGE


class TestHostile:
    @staticmethod
    def _refused(root: Path, data: bytes, message: str) -> None:
        with pytest.raises(SourceError, match=message):
            open_source(fill(root, {"x.mdb": data}) + "/x.mdb")

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        for data in (b"", b"\0" * 8192, b"\0\1\0\0Standard Jet DB\0" + b"\0" * 4096):
            self._refused(tmp_path, data, "not an LMDB file")

    @pytest.mark.parametrize("page_size", [0, 3, 100, 4097, 1 << 17, 0xFFFFFFFF])
    def test_false_sizes_of_pages(self, tmp_path: Path, page_size: int) -> None:
        self._refused(tmp_path, _changed(stored("plain"), 40, struct.pack("<I", page_size)), "its pages would have")

    def test_another_version(self, tmp_path: Path) -> None:
        self._refused(tmp_path, _changed(stored("plain"), 20, struct.pack("<I", 2)), "of version 2; version 1 is read")

    def test_a_file_that_was_cut_off(self, tmp_path: Path) -> None:
        data = stored("plain")
        end = data.index(b"00299-") // PAGE * PAGE  # free pages may follow
        for size in range(2 * PAGE, end, PAGE // 2):
            self._refused(tmp_path, data[:size], "behind the end")

    def test_a_circle_of_pages(self, tmp_path: Path) -> None:
        data = stored("plain")
        root = _root(data)
        node = root + struct.unpack_from("<H", data, root + 16)[0]
        self._refused(tmp_path, _changed(data, node, struct.pack("<IH", root // PAGE, 0)), "in a circle|deeper")

    def test_a_false_count_of_entries(self, tmp_path: Path) -> None:
        data = stored("plain")
        at = _newer_meta(data) + 120
        self._refused(tmp_path, _changed(data, at, struct.pack("<Q", 1 << 60)), "promises 1152921504606846976 entries")

    def test_values_that_share_their_bytes_are_no_bomb(self, tmp_path: Path) -> None:
        data = bytearray(stored("plain"))
        large = data.index(b"large" * 200)  # the first page of the large value
        for number in range(2, len(data) // PAGE):
            page = number * PAGE
            if struct.unpack_from("<H", data, page + 10)[0] == 2 and page + 16 != large:
                for k in range((struct.unpack_from("<H", data, page + 12)[0] - 16) // 2):
                    node = page + struct.unpack_from("<H", data, page + 16 + 2 * k)[0]
                    key_length = struct.unpack_from("<H", data, node + 6)[0]
                    struct.pack_into("<HHH", data, node, 20000, 0, 1)
                    struct.pack_into("<Q", data, node + 8 + key_length, large // PAGE)
        self._refused(tmp_path, bytes(data), "several keys share one|behind the end|damaged")

    def test_a_changed_byte_gives_samples_or_an_error(self, tmp_path: Path) -> None:
        data, numbers = stored("plain"), random.Random(5)
        for _ in range(100):
            at = numbers.choice(
                [numbers.randrange(len(data)), numbers.randrange(2 * PAGE), _root(data) + numbers.randrange(64)]
            )
            changed = _changed(data, at, numbers.randbytes(numbers.choice([1, 2, 8])))[: len(data)]
            path = fill(tmp_path, {"x.mdb": changed}) + "/x.mdb"
            found: Any = []
            try:
                found = samples(open_source(path))
            except SourceError:
                continue
            assert sum(len(row["data"]) for row in found) <= len(data)
