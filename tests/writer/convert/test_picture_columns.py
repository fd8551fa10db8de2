"""Pictures that are stored as they are go in columns: the same bytes, notes and statistics as sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from recordio import DecodeError, ShardDataset
from recordio.errors import SourceError
from recordio.writer.convert import engines
from recordio.writer.sources.folders.class_folders import ClassFolders
from tests.photos import encode, photo
from tests.writer.convert.test_stopped import contents, made

PICTURES = 30


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Of all formats that are stored, some with a name of another, one on its side."""
    root = tmp_path / "pictures"
    for k in range(PICTURES):
        kind = ("JPEG", "PNG", "WEBP")[k % 3]
        path = root / f"class{k % 4}" / f"{k:03d}.{'jpg' if k % 5 else kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(photo(20 + k % 7, 30, seed=k), kind))
    exif = Pillow.Exif()
    exif[0x0112] = 6
    (root / "class0/turned.jpg").write_bytes(encode(photo(), exif=exif))
    return root


@pytest.fixture
def by_samples(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the source offer no columns."""
    return lambda: monkeypatch.setattr(ClassFolders, "batches", lambda self, indices: None)


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": 3, "shard_bytes": 20_000}, {"keep_names": False, "block_bytes": 999}]
)
def test_the_same_bytes_and_notes(tmp_path: Path, source: Path, by_samples: Any, options: dict[str, Any]) -> None:
    columns = made(source, tmp_path / "columns", check=False, **options)
    by_samples()
    samples = made(source, tmp_path / "samples", check=False, **options)
    assert contents(tmp_path / "columns") == contents(tmp_path / "samples")
    assert columns.notes == samples.notes
    assert any("1 picture stored and read as they lie" in note for note in columns.notes)
    assert any("named .jpg, but PNG by the content" in note for note in columns.notes)


def test_the_same_where_most_are_jpeg_files_by_name_and_content(tmp_path: Path, source: Path, by_samples: Any) -> None:
    for path in [*source.rglob("*.png"), *source.rglob("*.webp"), *source.rglob("*.jpeg")]:
        path.rename(path.with_suffix(".jpg"))
    for k in range(150):
        (source / f"class3/z{k:03d}.jpg").write_bytes(encode(photo(20 + k % 9, 30, seed=k % 5)))
    columns = made(source, tmp_path / "columns", check=False)
    by_samples()
    samples = made(source, tmp_path / "samples", check=False)
    assert contents(tmp_path / "columns") == contents(tmp_path / "samples")
    assert columns.notes == samples.notes
    assert {"10 pictures named .jpg, but PNG by the content", "10 pictures named .jpg, but WEBP by the content"} <= {
        *columns.notes
    }


@pytest.mark.parametrize("options", [{}, {"workers": 1}, {"mode": "L"}, {"check": False, "statistics": "full"}])
def test_decoded_pictures_give_the_same_bytes_and_notes(
    tmp_path: Path, source: Path, by_samples: Any, options: dict[str, Any]
) -> None:
    for k in range(80):
        path = source.parent / "plain" / f"class{k % 2}/{k:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(photo(20 + k % 9, 30, seed=k % 5)))
    (source.parent / "plain/class1/turned.jpg").write_bytes((source / "class0/turned.jpg").read_bytes())
    columns = [made(root, tmp_path / f"columns-{root.name}", **options) for root in (source, source.parent / "plain")]
    by_samples()
    samples = [made(root, tmp_path / f"samples-{root.name}", **options) for root in (source, source.parent / "plain")]
    for name in (source.name, "plain"):
        assert contents(tmp_path / f"columns-{name}") == contents(tmp_path / f"samples-{name}")
    assert [one.notes for one in columns] == [one.notes for one in samples]


@pytest.mark.parametrize("check", [True, False])
def test_few_shards_on_few_cores_are_made_by_one_process(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    started: list[int] = []
    inline = engines.run_inline

    def counted(*given: Any) -> Any:
        started.append(given[4])
        return inline(*given)

    monkeypatch.setattr(engines, "_default_workers", lambda: 2)
    monkeypatch.setattr(engines, "run_inline", counted)
    threads = made(source, tmp_path / "threads", shard_bytes=16_000, workers=None, check=check)
    assert started == [2]
    processes = made(source, tmp_path / "processes", shard_bytes=16_000, workers=2, check=check)
    assert processes.samples == threads.samples
    assert started == [2]
    assert contents(tmp_path / "threads") == contents(tmp_path / "processes")
    assert 2 <= len(list((tmp_path / "threads").glob("*.rio"))) < 8


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_picture_that_does_not_decode_is_named(tmp_path: Path, source: Path, on_error: str) -> None:
    whole = (source / "class0/turned.jpg").read_bytes()
    (source / "class2/cut.jpg").write_bytes(whole[: len(whole) // 2])
    if on_error == "raise":
        with pytest.raises(DecodeError, match=r"class2/cut\.jpg"):
            made(source, tmp_path / "out")
        return
    assert [name for name, _ in made(source, tmp_path / "out", on_error="skip").skipped] == ["class2/cut.jpg"]


def test_statistics_are_those_of_a_checked_conversion_but_for_the_pixels(tmp_path: Path, source: Path) -> None:
    made(source, tmp_path / "plain", check=False)
    made(source, tmp_path / "checked")
    plain, checked = (ShardDataset(tmp_path / name).statistics for name in ("plain", "checked"))
    assert plain is not None
    assert checked is not None
    assert plain["label"] == checked["label"]
    found = plain["image"]
    assert found.formats == {"jpeg": PICTURES // 3 + 1, "png": PICTURES // 3, "webp": PICTURES // 3}
    assert (found.height, found.width, found.lengths) == (
        checked["image"].height,
        checked["image"].width,
        checked["image"].lengths,
    )
    assert found.channels is None
    assert checked["image"].channels is not None


def test_a_file_of_another_format_is_made_a_png_among_the_others(tmp_path: Path, source: Path, by_samples: Any) -> None:
    (source / "class1/z.bmp").write_bytes(encode(photo(), "BMP"))
    columns = made(source, tmp_path / "columns", check=False)
    by_samples()
    made(source, tmp_path / "samples", check=False)
    assert contents(tmp_path / "columns") == contents(tmp_path / "samples")
    assert [note for note in columns.notes if "BMP" in note] == ["1 picture stored as PNG, without loss: BMP"]
    assert sum("as they lie" in note and note.startswith("1 ") for note in columns.notes) == 1


def test_a_broken_file_is_named_and_may_be_left_out(tmp_path: Path, source: Path) -> None:
    (source / "class2/bad.jpg").write_bytes(b"\xff\xd8\xff\xe0no picture")
    with pytest.raises(DecodeError, match=r"class2/bad\.jpg"):
        made(source, tmp_path / "out", check=False)
    report = made(source, tmp_path / "out", check=False, on_error="skip")
    assert report.samples == PICTURES + 1
    assert [name for name, _ in report.skipped] == ["class2/bad.jpg"]


def test_a_file_that_changed_since_it_was_listed_is_named(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = ClassFolders._survey

    def changed(self: ClassFolders, options: Any) -> Any:
        with open(source / "class0/turned.jpg", "ab") as file:
            file.write(b"more")
        return survey(self, options)

    monkeypatch.setattr(ClassFolders, "_survey", changed)
    with pytest.raises(SourceError, match=r"changed while it was converted.*turned\.jpg"):
        made(source, tmp_path / "out", check=False)
