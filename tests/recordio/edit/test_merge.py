"""recordio.merge: the shards of several datasets become those of one, byte for byte where their fields agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import Array, CorruptError, DatasetError, Scalar, SchemaError, ShardDataset, Text
from tests.recordio.edit.datasets import FIELDS, files, numbers, rows, sample, write


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "a", range(20)), write(tmp_path / "b", range(20, 30))]


def expected(count: int) -> list[dict[str, Any]]:
    return [sample(i) for i in range(count)]


def test_a_merge_holds_the_samples_of_all_in_order(tmp_path: Path, two: list[Path]) -> None:
    before = [files(path) for path in two]
    report = recordio.merge(tmp_path / "all", two)
    assert (report.samples, report.shards, report.copied, report.rewritten) == (30, 5, 5, 0)
    assert rows(tmp_path / "all") == expected(30)
    assert recordio.verify(tmp_path / "all").ok
    assert [files(path) for path in two] == before
    assert set(files(tmp_path / "all")) == {"manifest.json", *(f"shard-{k:05}.rio" for k in range(5))}


def test_pages_are_copied_and_not_coded_anew(tmp_path: Path, two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordio.format.codec.PageCoder.encode", None)
    recordio.merge(tmp_path / "all", two)
    stored = [entry.content_nbytes for path in two for entry in ShardDataset(path).store.manifest.shards]
    assert [entry.content_nbytes for entry in ShardDataset(tmp_path / "all").store.manifest.shards] == stored


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, two: list[Path]) -> None:
    narrow = write(tmp_path / "c", range(9), FIELDS | {"number": Scalar("int32")})
    for workers in (1, 3):
        recordio.merge(tmp_path / f"{workers}", [*two, narrow], workers=workers)
    assert files(tmp_path / "1") == files(tmp_path / "3")


def test_the_same_merge_again_does_nothing(tmp_path: Path, two: list[Path]) -> None:
    recordio.merge(tmp_path / "all", two)
    before = files(tmp_path / "all")
    assert recordio.merge(tmp_path / "all", two).done_before
    assert files(tmp_path / "all") == before


def test_another_dataset_is_replaced_on_request_alone(tmp_path: Path, two: list[Path]) -> None:
    recordio.merge(tmp_path / "all", two)
    with pytest.raises(DatasetError, match="another dataset here; overwrite=True"):
        recordio.merge(tmp_path / "all", two[:1])
    assert numbers(tmp_path / "all") == list(range(30))
    recordio.merge(tmp_path / "all", two[:1], overwrite=True)
    assert numbers(tmp_path / "all") == list(range(20))


def test_what_was_added_to_a_merge_is_not_lost(tmp_path: Path, two: list[Path]) -> None:
    recordio.merge(tmp_path / "all", two)
    write(tmp_path / "all", [99], mode="append")
    with pytest.raises(DatasetError, match="samples were added"):
        recordio.merge(tmp_path / "all", two)


def test_a_source_may_be_given_twice_and_be_empty(tmp_path: Path) -> None:
    a, empty = write(tmp_path / "a", range(9)), write(tmp_path / "empty", [])
    recordio.merge(tmp_path / "all", [a, empty, a])
    assert numbers(tmp_path / "all") == [*range(9), *range(9)]
    assert recordio.merge(tmp_path / "none", [empty]).samples == 0
    assert len(ShardDataset(tmp_path / "none")) == 0


def test_narrower_fields_are_joined_and_said(tmp_path: Path, two: list[Path]) -> None:
    narrow = write(
        tmp_path / "narrow", range(30, 39), FIELDS | {"number": Scalar("int16"), "text": Text(optional=True)}
    )
    report = recordio.merge(tmp_path / "all", [two[0], two[1], narrow])
    assert (report.copied, report.rewritten) == (5, 2)
    assert report.notes == ("narrow is written anew: number (int16 -> int64)",)
    assert rows(tmp_path / "all") == expected(39)


def test_a_field_that_one_dataset_may_lack_becomes_optional(tmp_path: Path) -> None:
    a = write(tmp_path / "a", range(4), {"number": Scalar("int64"), "text": Text(optional=True)})
    b = write(tmp_path / "b", range(4), {"number": Scalar("int64"), "text": Text()})
    report = recordio.merge(tmp_path / "all", [b, a])
    assert report.rewritten == 1
    assert ShardDataset(tmp_path / "all").schema["text"].optional
    assert ShardDataset(tmp_path / "all").column("text") == [f"text {i}" for i in (*range(4), *range(4))]


def test_fields_that_cannot_be_joined_are_named(tmp_path: Path, two: list[Path]) -> None:
    other = write(tmp_path / "other", range(3), FIELDS | {"number": Scalar("float32")})
    with pytest.raises(SchemaError, match=r"without loss.*field 'number'"):
        recordio.merge(tmp_path / "all", [two[0], other])
    fewer = write(tmp_path / "fewer", range(3), {"number": Scalar("int64")})
    with pytest.raises(SchemaError, match="differ in their fields"):
        recordio.merge(tmp_path / "all", [two[0], fewer])
    assert not (tmp_path / "all").exists()


def test_labels_mean_one_class(tmp_path: Path, two: list[Path]) -> None:
    other = write(tmp_path / "other", range(4), classes=["dog", "cow"])
    with pytest.raises(SchemaError, match="label 0 is 'cat'"):
        recordio.merge(tmp_path / "all", [two[1], other])
    report = recordio.merge(tmp_path / "all", [two[1], other], relabel=True)
    ds = ShardDataset(tmp_path / "all")
    assert ds.metadata["classes"] == ["cat", "dog", "cow"]
    assert ds.column("label").tolist()[-4:] == [1, 2, 1, 2]
    assert report.notes == ("other is written anew: its labels get other numbers",)


def test_labels_without_classes_are_not_mixed_with_named_ones(tmp_path: Path, two: list[Path]) -> None:
    fields = {"number": Scalar("int64")}
    named, bare = write(tmp_path / "named", range(3), fields), tmp_path / "bare"
    with recordio.DatasetWriter(bare, fields) as writer:
        writer.write({"number": 1})
    with pytest.raises(SchemaError, match="names its classes"):
        recordio.merge(tmp_path / "all", [named, bare])


def test_metadata_that_differs_is_kept_by_source_and_said(tmp_path: Path) -> None:
    a = write(tmp_path / "a", range(3), day=1, camera="x")
    b = write(tmp_path / "b", range(3), day=2, camera="x", conversion={"check": False})
    report = recordio.merge(tmp_path / "all", [a, b])
    metadata = ShardDataset(tmp_path / "all").metadata
    assert metadata["camera"] == "x"
    assert "day" not in metadata
    one, two = metadata["conversion"]["sources"]
    assert (one["name"], one["samples"], one["metadata"]) == ("a", 3, {"day": 1})
    assert (two["metadata"], two["conversion"]) == ({"day": 2}, {"check": False})
    assert [note for note in report.notes if "'day'" in note]


def test_fields_read_on_request_stay_so(tmp_path: Path) -> None:
    hidden = {"conversion": {"names": ["text"]}}
    a, b = (write(tmp_path / name, range(3), **hidden) for name in "ab")
    recordio.merge(tmp_path / "all", [a, b])
    assert "text" not in ShardDataset(tmp_path / "all").schema
    assert ShardDataset(tmp_path / "all").column("text") == [f"text {i}" for i in (0, 1, 2, 0, 1, 2)]


@pytest.mark.parametrize("where", ["a", "a/inner", "."])
def test_the_destination_is_apart_from_the_sources(tmp_path: Path, two: list[Path], where: str) -> None:
    with pytest.raises(DatasetError, match="the source"):
        recordio.merge(tmp_path / where, two)
    assert numbers(two[0]) == list(range(20))


def test_a_damaged_source_is_refused_and_what_is_finished_is_kept(tmp_path: Path, two: list[Path]) -> None:
    shard = two[1] / "shard-00001.rio"
    good = shard.read_bytes()
    shard.write_bytes(good[:600] + bytes([good[600] ^ 1]) + good[601:])
    with pytest.raises(CorruptError, match="checksum") as caught:
        recordio.merge(tmp_path / "all", two, workers=1)
    assert "run the same command again" in str(caught.value.__notes__)
    with pytest.raises(DatasetError, match="not a recordio dataset yet"):
        ShardDataset(tmp_path / "all")
    shard.write_bytes(good)
    assert recordio.merge(tmp_path / "all", two).reused == 4
    assert rows(tmp_path / "all") == expected(30)


@pytest.mark.parametrize("sources", [[], "one", Path("one")])
def test_sources_are_a_list(tmp_path: Path, sources: Any) -> None:
    with pytest.raises(SchemaError, match="a list of the folders"):
        recordio.merge(tmp_path / "all", sources)


def test_a_free_dimension_takes_arrays_of_both_sizes(tmp_path: Path) -> None:
    for size in (2, 3):
        with recordio.DatasetWriter(tmp_path / f"{size}", {"x": Array("int8", (size,))}) as writer:
            writer.write({"x": [size] * size})
    recordio.merge(tmp_path / "all", [tmp_path / "2", tmp_path / "3"])
    assert [x.tolist() for x in ShardDataset(tmp_path / "all").column("x")] == [[2, 2], [3, 3, 3]]
