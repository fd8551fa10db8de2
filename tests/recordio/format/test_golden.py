"""Golden datasets: both readers match the JSON beside them, and the writer still produces the same bytes."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Array, Image, ShardDataset, verify
from recordio.format.codec import Codec
from recordio.format.layout import FOOTER, MAX_NAME_NBYTES, index_dtype
from recordio.format.manifest import Manifest
from recordio.format.schema import TYPES

TESTS = Path(__file__).parents[2]
HOME = TESTS / "golden"
MAKE = runpy.run_path(str(HOME / "make.py"))
MINIMAL = runpy.run_path(str(TESTS.parent / "docs" / "minimal_reader.py"))
NAMES: list[str] = sorted(MAKE["GOLDEN"])
CODED = {"narrow_zstd", "zstd"}  # other versions of zstd may give other bytes

every_dataset = pytest.mark.parametrize("name", NAMES)


def manifest_of(name: str) -> Manifest:
    return Manifest.decode((HOME / name / "manifest.json").read_bytes())


def twin(name: str) -> str:
    return (HOME / f"{name}.json").read_text("ascii")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def pages(folder: Path) -> Iterator[np.ndarray[Any, Any]]:
    """The page entries of each shard, (blocks, fields)."""
    for path in sorted(folder.glob("*.rio")):
        data = path.read_bytes()
        *_, fields, _, _, _, index_offset, _, _, blocks, _, _, _ = FOOTER.unpack(data[-FOOTER.size :])
        yield np.frombuffer(data, index_dtype(fields), blocks, index_offset)["pages"]


def read_minimal(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    metadata, samples = MINIMAL["read_dataset"](folder)
    return metadata, list(samples)


def as_twin(name: str, metadata: Any, samples: list[dict[str, Any]]) -> str:
    return str(MAKE["twin"](metadata, iter(samples), manifest_of(name).schema))


def test_every_golden_dataset_has_a_maker_and_a_json_twin() -> None:
    assert [path.name for path in sorted(HOME.iterdir()) if path.is_dir() and path.name != "__pycache__"] == NAMES
    assert [path.stem for path in sorted(HOME.glob("*.json"))] == NAMES


@every_dataset
@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
def test_library_reads_golden_datasets(name: str, io: Any) -> None:
    dataset = ShardDataset(HOME / name, decode=None, io=io)
    assert as_twin(name, dataset.metadata, list(dataset)) == twin(name)
    assert as_twin(name, dataset.metadata, [dataset[i] for i in range(len(dataset))]) == twin(name)


@every_dataset
def test_minimal_reader_reads_golden_datasets(name: str) -> None:
    assert as_twin(name, *read_minimal(HOME / name)) == twin(name)


@every_dataset
def test_numbers_are_read_in_the_dtype_of_their_field(name: str) -> None:
    dataset = ShardDataset(HOME / name, decode=None)
    numeric = {key: kind.dtype for key, kind in dataset.schema.items() if hasattr(kind, "dtype")}
    images = {key for key, kind in dataset.schema.items() if isinstance(kind, Image) and kind.encoded}
    for sample in dataset:
        got = {key: sample[key].dtype for key in numeric.keys() - images if sample[key] is not None}
        assert got == {key: numeric[key] for key in got}


@every_dataset
def test_verify_passes_golden_datasets(name: str) -> None:
    report = verify(HOME / name)
    assert report.ok, report


@every_dataset
def test_writer_reproduces_golden_datasets(name: str, tmp_path: Path) -> None:
    """The same bytes for plain datasets, their statistics aside; the same samples in the same blocks for coded ones."""
    MAKE["make"](name, tmp_path)
    assert (tmp_path / f"{name}.json").read_text("ascii") == twin(name)
    if name in CODED:
        again, golden = Manifest.decode((tmp_path / name / "manifest.json").read_bytes()), manifest_of(name)
        assert [(s.number, s.content_nbytes, s.runs) for s in again.shards] == [
            (s.number, s.content_nbytes, s.runs) for s in golden.shards
        ]
        assert (again.dataset_id, again.schema, again.metadata) == (golden.dataset_id, golden.schema, golden.metadata)
        assert as_twin(name, *read_minimal(tmp_path / name)) == twin(name)
    else:
        again = files(tmp_path / name)
        written = Manifest.decode(again["manifest.json"])
        assert written.statistics is not None
        if manifest_of(name).statistics is None:  # most golden datasets are older than them
            again["manifest.json"] = replace(written, statistics=None).encode()
        assert again == files(HOME / name)


@every_dataset
def test_only_coded_datasets_are_compared_by_content(name: str) -> None:
    codecs = {int(codec) for table in pages(HOME / name) for codec in table["codec"].ravel()}
    assert (Codec.ZSTD in codecs) == (name in CODED)
    assert (Codec.NARROW in codecs) == (name in ("narrow", "narrow_zstd"))
    assert (Codec.NARROW_ZSTD in codecs) == (name == "narrow_zstd")


def test_golden_datasets_cover_the_format() -> None:
    every: list[Any] = [kind for name in NAMES for kind in manifest_of(name).schema.values()]
    assert {kind.type for kind in every} == set(TYPES)
    assert {kind.type for kind in every if kind.optional} == set(TYPES)
    assert {kind.dtype.name for kind in every if kind.type == "scalar"} == set(MAKE["DTYPES"])
    assert {kind.dtype.name for kind in every if isinstance(kind, Array)} == set(MAKE["DTYPES"])
    assert {kind.row_nbytes is None for kind in every if kind.optional and isinstance(kind, Array)} == {True, False}
    assert max(len(field.encode()) for name in NAMES for field in manifest_of(name).schema) == MAX_NAME_NBYTES
    manifests = [manifest_of(name) for name in NAMES]
    assert {len(manifest.shards) for manifest in manifests} >= {0, 1, 2, 3}
    assert max(shard.blocks for manifest in manifests for shard in manifest.shards) > 2
    for name, codecs in (("zstd", {0, 1}), ("narrow_zstd", {0, 1, 2, 3})):
        assert {int(codec) for table in pages(HOME / name) for codec in table["codec"].ravel()} == codecs


def test_json_twins_hold_metadata_and_samples() -> None:
    for name in NAMES:
        body = json.loads(twin(name))
        assert body.keys() == {"metadata", "samples"}
        assert len(body["samples"]) == manifest_of(name).samples
