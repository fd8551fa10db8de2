"""Zarr: rows equal what the package wrote, pickles are never loaded, and false stores are refused."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from recordio import Array, MissingPackageError, Scalar, ShardDataset, SourceError, Text
from recordio.writer.sources import find_sources, open_source
from tests.writer.convert.test_convert import contents, made
from tests.writer.sources.test_folders import samples
from tests.writer.sources.test_hdf5 import plain

DATA = Path(__file__).parents[2] / "data/formats/zarr"
EXPECTED: dict[str, list[Any]] = json.loads((DATA / "expected.json").read_text("utf-8"))


def store(root: Path, version: int = 3) -> Path:
    with zipfile.ZipFile(DATA / f"v{version}.zip") as archive:
        archive.extractall(root / "a.zarr")
    return root / "a.zarr"


def changed(path: Path, **values: Any) -> None:
    """Changes some keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


class TestRows:
    @pytest.fixture(autouse=True)
    def _package(self) -> None:
        pytest.importorskip("zarr")

    @pytest.mark.parametrize("version", [2, 3])
    def test_every_type_comes_out_as_it_was_written(self, tmp_path: Path, version: int) -> None:
        (spec,) = find_sources(store(tmp_path, version)).values()
        source = pickle.loads(pickle.dumps(open_source(spec.path, spec.kind, spec.options)))
        rows = samples(source)
        for name, values in EXPECTED.items():
            assert [plain(row[name]) for row in rows] == values
        for name in ("blosc", "gzip", "zstd"):
            assert [row[f"packed/{name}"].tolist() for row in rows] == np.arange(35).reshape(7, 5).tolist()
        assert source.schema["big"] == Scalar("float64")
        assert source.schema["group/images"] == Array("uint8", (2, 3, 3))
        assert source.schema["word"] == source.schema["fixed"] == Text()
        assert source.metadata == {"attributes": {"/": {"title": "täst", "sizes": [0, 1, 2]}, "ints": {"unit": "mm"}}}
        assert "left out: 1 array without 7 rows (mean [3])" in source.notes
        assert source.key(3) == "a.zarr row 3"

    def test_shards_are_read(self, tmp_path: Path) -> None:
        rows = samples(open_source(store(tmp_path)))
        assert [row["shards"].tolist() for row in rows] == np.arange(28).reshape(7, 4).tolist()

    def test_groups_named_as_splits_are_splits(self, tmp_path: Path) -> None:
        zarr = pytest.importorskip("zarr")
        group = zarr.open_group(tmp_path / "s", mode="w")
        for split, count in (("train", 4), ("test", 2)):
            group.create_array(f"{split}/x", data=np.arange(count))
        found = find_sources(tmp_path / "s")
        assert list(found) == ["train", "test"]
        sources = [open_source(spec.path, spec.kind, spec.options) for spec in found.values()]
        assert [[int(row["x"]) for row in samples(source)] for source in sources] == [[0, 1, 2, 3], [0, 1]]

    def test_chunks_that_are_not_there_are_the_fill_value_and_noted(self, tmp_path: Path) -> None:
        path = store(tmp_path)
        (path / "ints/c/1").unlink()
        source = open_source(path)
        assert [int(row["ints"]) for row in samples(source)] == [-5, -2, 1, 0, 0, 0, 13]
        assert "ints: 1 of 3 chunks are not there, and are the fill value" in source.notes

    @pytest.mark.slow
    def test_any_number_of_workers_makes_the_same_bytes(self, tmp_path: Path) -> None:
        path = store(tmp_path)
        for workers in (1, 2, 5):
            made(path, tmp_path / f"{workers}", workers=workers, shard_bytes=1000)
        assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")
        dataset = ShardDataset(tmp_path / "5")
        for name, values in EXPECTED.items():
            assert [plain(row[name]) for row in dataset] == values


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'recordio-shards\[zarr\]'"):
        open_source(store(tmp_path))


class TestHostile:
    """Nothing here needs the package: the store is refused before it is asked."""

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"filters": [{"id": "pickle"}], "dtype": "|O"}, "codec 'pickle': pickles could run any program"),
            ({"compressor": {"id": "pickle"}}, "codec 'pickle': pickles could run any program"),
            ({"compressor": {"id": "msgpack2"}}, "codec 'msgpack2', which is not read"),
            ({"compressor": 5}, "no object"),
            ({"filters": "delta"}, "no list"),
            ({"dtype": "|O"}, "type '|O' are not read"),
            ({"dtype": [["a", "<i4"]]}, "are not read"),
            ({"dtype": "<M8[s]"}, "are not read"),
            ({"shape": [1 << 40]}, "of its .* chunks .* are there"),
            ({"shape": [-1]}, "not a shape"),
            ({"shape": "x"}, "not a shape"),
            ({"chunks": [0]}, "not a shape"),
            ({"chunks": [1 << 40]}, "its chunks have"),
            ({"chunks": [3, 3]}, "do not go together"),
            ({"zarr_format": 4}, "version 4; versions 2 and 3"),
        ],
    )
    def test_false_metadata_of_version_2(self, tmp_path: Path, values: dict[str, Any], message: str) -> None:
        path = store(tmp_path, 2)
        changed(path / "ints/.zarray", **values)
        for other in ("packed", "group", "big", "flags", "complex", "word", "fixed", "mean"):
            shutil.rmtree(path / other)
        with pytest.raises(SourceError, match=message):
            open_source(path)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}, "pickles could run any program"),
            ({"codecs": [{"name": "bytes"}, {"name": "x"}]}, "codec 'x', which is not read"),
            ({"codecs": [{"name": "zstd"}, {"name": "gzip"}]}, "packed twice"),
            ({"codecs": {}}, "no list"),
            ({"data_type": "datetime64"}, "are not read"),
            ({"data_type": {"name": "struct"}}, "are not read"),
            ({"storage_transformers": [{"name": "x"}]}, "storage transformers"),
            ({"chunk_grid": {"name": "rectangular"}}, "not regular"),
        ],
    )
    def test_false_metadata_of_version_3(self, tmp_path: Path, values: dict[str, Any], message: str) -> None:
        path = store(tmp_path)
        changed(path / "ints/zarr.json", **values)
        with pytest.raises(SourceError, match=message):
            open_source(path)

    def test_deep_json_is_refused(self, tmp_path: Path) -> None:
        path = store(tmp_path)
        (path / "ints/zarr.json").write_text("[" * 100_000)
        with pytest.raises(SourceError, match="nested deeper"):
            open_source(path)

    def test_links_out_of_the_store_are_refused(self, tmp_path: Path) -> None:
        path = store(tmp_path)
        (path / "ints/c/0").unlink()
        os.symlink("/etc/passwd", path / "ints/c/0")
        with pytest.raises(SourceError, match="a symbolic link may lead out of the store"):
            open_source(path)

    @pytest.mark.parametrize(
        ("name", "data", "message"),
        [
            ("packed/zstd/c/0/0", zstandard.compress(bytes(1 << 20)), "would unpack to 1,048,576"),
            ("packed/zstd/c/0/0", zstandard.ZstdCompressor().compressobj().compress(b"") or b"\x28\xb5", "damaged"),
            (
                "packed/blosc/c/0/0",
                struct.pack("<4BIII", 2, 1, 1, 8, 1 << 31, 1, 1) + bytes(99),
                "would unpack to 2,147",
            ),
            ("packed/gzip/c/0/0", bytes(1 << 20), "is stored in 1,048,576"),
            ("shards/c/0/0", b"x" * 20, "a shard is cut off"),
            ("shards/c/0/0", struct.pack("<2Q", 1 << 40, 5) * 8 + bytes(4), "behind its end"),
        ],
    )
    def test_chunks_that_lie_are_refused(self, tmp_path: Path, name: str, data: bytes, message: str) -> None:
        path = store(tmp_path)
        (path / name).write_bytes(data)
        pytest.importorskip("zarr")
        with pytest.raises(SourceError, match=message):
            open_source(path)

    def test_a_bomb_of_gzip_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("recordio.writer.sources.arrays.zarr_chunks.SMALL", 1 << 10)
        pytest.importorskip("zarr")
        path = store(tmp_path)
        (path / "packed/gzip/c/0/0").write_bytes(gzip.compress(b"x") + gzip.compress(bytes(9 << 20)))
        with pytest.raises(SourceError, match="unpacks to more than its 80 bytes"):
            open_source(path)

    def test_a_bomb_of_zstd_that_does_not_say_its_size_is_refused(self, tmp_path: Path) -> None:
        pytest.importorskip("zarr")
        path = store(tmp_path)
        packer = zstandard.ZstdCompressor().compressobj()
        (path / "packed/zstd/c/0/0").write_bytes(packer.compress(bytes(9 << 20)) + packer.flush())
        with pytest.raises(SourceError, match="would unpack to"):
            open_source(path)

    def test_a_damaged_chunk_fails_its_samples(self, tmp_path: Path) -> None:
        pytest.importorskip("zarr")
        path = store(tmp_path)
        data = bytearray((path / "packed/gzip/c/0/0").read_bytes())
        data[-10:] = bytes(10)
        (path / "packed/gzip/c/0/0").write_bytes(data)
        found = samples(open_source(path))
        assert isinstance(found[0], SourceError)
        assert found[0].place.field == "packed/gzip"
        assert not isinstance(found[6], SourceError)
