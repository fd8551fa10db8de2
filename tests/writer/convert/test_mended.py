"""A conversion that goes on after its input was mended: unchanged units are used again, and the bytes are the same."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from recordio import RecordIOError, ShardDataset, convert, verify
from recordio.format.layout import BLOCK_MAGIC
from recordio.writer.convert.convert import ConvertReport
from recordio.writer.convert.staging import UnitNote
from tests.photos import encode, photo

ITEMS, BAD, EARLY = 30, 28, 7
FILE_BYTES = 4000


class Case(NamedTuple):
    """A source whose sample BAD cannot be read; `put(number, content)` writes one sample, of which 0 is bad."""

    source: Path
    put: Callable[[int, int | None], Any]


def picture(content: int | None) -> bytes:
    """Pictures of equal length, so that a unit has as many samples before and after; 0 is none."""
    data = encode(photo(30, 40, content), quality=80) if content else b"broken"
    return data.ljust(FILE_BYTES, b"\0")


def put_file(path: Path, data: bytes | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        path.unlink()
        return
    (path.parent / ".new").write_bytes(data)
    os.replace(path.parent / ".new", path)


def image_folder(root: Path) -> Case:
    def put(number: int, content: int | None) -> None:
        put_file(root / "in" / "ab"[number // 15] / f"{number:03}.jpg", None if content is None else picture(content))

    return Case(root / "in", put)


def file_groups(root: Path) -> Case:
    def put(number: int, content: int | None) -> None:
        text = b"\xff" * 100 if not content else f"{content}".encode().rjust(100)
        put_file(root / "in" / f"{number:03}.txt", None if content is None else text * 40)
        put_file(root / "in" / f"{number:03}.cls", None if content is None else b"%d" % (content % 7))

    return Case(root / "in", put)


def rows(path: Path, head: str, line: Callable[[int, int], str]) -> Case:
    items: dict[int, int] = {}

    def put(number: int, content: int | None) -> None:
        items[number] = 1 if content is None else content
        if content is None:
            del items[number]
        text = "".join(line(number, content) for number, content in sorted(items.items()))
        put_file(path, (head + text).encode())

    return Case(path, put)


def csv(root: Path) -> Case:
    def line(number: int, content: int) -> str:
        return f"{number},{f'row {content}':>{FILE_BYTES}}\n" if content else f"{number},too,many cells\n"

    return rows(root / "t.csv", "n,text\n", line)


def jsonl(root: Path) -> Case:
    def line(number: int, content: int) -> str:
        return json.dumps({"n": number, "text": f"row {content}".rjust(FILE_BYTES)})[: None if content else -1] + "\n"

    return rows(root / "t.jsonl", "", line)


def paired_folders(root: Path) -> Case:
    def put(number: int, content: int | None) -> None:
        put_file(root / "in/images" / f"{number:03}.jpg", picture(content))
        put_file(root / "in/captions" / f"{number:03}.txt", b"text %d" % (content or 1))

    return Case(root / "in", put)


def indexed_files(root: Path) -> Case:
    names = [f"{number:03}.jpg" for number in range(ITEMS)]
    put_file(root / "in/metadata.csv", b"file_name,n\n" + b"".join(b"%s,1\n" % n.encode() for n in names))

    def put(number: int, content: int | None) -> None:
        put_file(root / "in" / names[number], picture(content))

    return Case(root / "in", put)


def coco(root: Path) -> Case:
    images = [{"id": number, "file_name": f"{number:03}.jpg"} for number in range(ITEMS)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [n, 0, 5, 5]} for n in range(ITEMS)]
    body = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}
    put_file(root / "in/instances.json", json.dumps(body).encode())

    def put(number: int, content: int | None) -> None:
        put_file(root / "in/images" / f"{number:03}.jpg", picture(content))

    return Case(root / "in", put)


CASES = [image_folder, file_groups, csv, jsonl, paired_folders, indexed_files, coco]


def made(source: Path, out: Path, **options: Any) -> ConvertReport:
    report = convert(source, out, **{"shard_bytes": 5 * FILE_BYTES, "workers": 0} | options)
    assert isinstance(report, ConvertReport)
    return report


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def waiting(out: Path) -> list[Path]:
    return sorted(out.glob(".convert/shard-*.json"))


def stopped(case: Case, out: Path, **options: Any) -> int:
    """Fills the source and converts it as far as its bad sample; returns how many shards are finished."""
    for number in range(ITEMS):
        case.put(number, 0 if number == BAD else number + 1)
    with pytest.raises(RecordIOError) as caught:
        made(case.source, out, **options)
    assert "what is finished is kept" in caught.value.__notes__[-1]
    count = len(waiting(out))
    assert count >= 4
    return count


def same_as_fresh(source: Path, out: Path, **options: Any) -> bool:
    fresh = out.with_name("fresh")
    made(source, fresh, **options)
    return contents(out) == contents(fresh) and verify(out).ok


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("make", CASES)
class TestMended:
    def test_all_finished_shards_are_used_again_when_the_bad_sample_is_replaced(
        self, tmp_path: Path, out: Path, make: Callable[[Path], Case]
    ) -> None:
        case = make(tmp_path)
        count = stopped(case, out)
        case.put(BAD, 99)
        report = made(case.source, out)
        assert report.reused == count
        assert not [note for note in report.notes if "dropped" in note]
        assert same_as_fresh(case.source, out)

    def test_the_shard_of_another_changed_sample_is_made_anew(
        self, tmp_path: Path, out: Path, make: Callable[[Path], Case]
    ) -> None:
        case = make(tmp_path)
        count = stopped(case, out)
        case.put(EARLY, 88)
        case.put(BAD, 99)
        report = made(case.source, out)
        assert report.reused == count - 1
        dropped = [note for note in report.notes if "dropped" in note]
        assert len(dropped) == 1
        assert dropped[0].startswith("dropped 1 finished shard of an earlier, unfinished run: their input was changed")
        assert same_as_fresh(case.source, out)

    def test_options_that_shape_shards_leave_none_to_use(
        self, tmp_path: Path, out: Path, make: Callable[[Path], Case]
    ) -> None:
        case = make(tmp_path)
        count = stopped(case, out)
        case.put(BAD, 99)
        report = made(case.source, out, compression=None)
        assert report.reused == 0
        note = next(note for note in report.notes if "dropped" in note)
        assert note.startswith(f"dropped {count} finished shards")
        assert "other options" in note
        assert same_as_fresh(case.source, out, compression=None)


@pytest.mark.parametrize("make", [image_folder, file_groups, csv, jsonl])
def test_all_finished_shards_are_used_again_when_the_bad_sample_is_removed(
    tmp_path: Path, out: Path, make: Callable[[Path], Case]
) -> None:
    case = make(tmp_path)
    count = stopped(case, out)
    case.put(BAD, None)
    report = made(case.source, out)
    assert (report.reused, report.samples) == (count, ITEMS - 1)
    assert same_as_fresh(case.source, out)


@pytest.mark.parametrize("make", [image_folder, file_groups])
def test_shards_whose_number_is_another_now_are_used_again(
    tmp_path: Path, out: Path, make: Callable[[Path], Case]
) -> None:
    case = make(tmp_path)
    count = stopped(case, out)
    note = UnitNote.read(waiting(out)[0])
    assert note is not None
    for number in range(note.entry.samples):
        case.put(number, None)
    case.put(BAD, 99)
    assert made(case.source, out).reused == count - 1
    assert same_as_fresh(case.source, out)


def test_what_was_dropped_is_said_by_the_error_too(tmp_path: Path, out: Path) -> None:
    case = image_folder(tmp_path)
    stopped(case, out)
    case.put(EARLY, 88)
    with pytest.raises(RecordIOError) as caught:
        made(case.source, out)
    assert caught.value.__notes__[0].startswith("dropped 1 finished shard")


@pytest.mark.parametrize("place", ["header", "block", "page", "footer", "cut", "gone", "other"])
def test_damaged_files_are_never_used_again(tmp_path: Path, out: Path, place: str) -> None:
    case = csv(tmp_path)
    count = stopped(case, out)
    shard = waiting(out)[1].with_suffix(".rio")
    data = bytearray(shard.read_bytes())
    block = data.index(BLOCK_MAGIC)
    at = {"header": 70, "block": block + 33, "page": block + 512, "footer": len(data) - 60}.get(place)
    if at is not None:
        data[at] ^= 1
        shard.write_bytes(data)
    elif place == "cut":
        shard.write_bytes(data[:-1])
    elif place == "gone":
        shard.unlink()
    else:
        shutil.copy(waiting(out)[0].with_suffix(".rio"), shard)
    case.put(BAD, 99)
    report = made(case.source, out)
    assert report.reused == count - 1
    assert "dropped 1 finished shard of an earlier, unfinished run: they are damaged" in report.notes
    assert same_as_fresh(case.source, out)


def test_shards_without_their_note_are_made_anew(tmp_path: Path, out: Path) -> None:
    case = csv(tmp_path)
    count = stopped(case, out)
    waiting(out)[0].write_text("[]")
    case.put(BAD, 99)
    assert made(case.source, out).reused == count - 1
    assert same_as_fresh(case.source, out)


class _Died(BaseException):
    """Stands for a crash."""


@pytest.mark.parametrize("again", ["same", "changed"])
@pytest.mark.parametrize("steps", range(14))
def test_dying_while_shards_are_taken_over_loses_none(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, steps: int, again: str
) -> None:
    case = csv(tmp_path)
    count = stopped(case, out)
    case.put(BAD, 99)
    left = [steps]
    replace = os.replace

    def dying(*args: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _Died
        replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(_Died):
            made(case.source, out)
    if again == "changed":
        case.put(BAD, 98)
    report = made(case.source, out)
    assert report.reused == count
    assert not [note for note in report.notes if "dropped" in note]
    assert same_as_fresh(case.source, out)


def test_a_shard_all_of_whose_samples_were_skipped_is_used_again(tmp_path: Path, out: Path) -> None:
    case = csv(tmp_path)
    for number in range(ITEMS):
        case.put(number, 0 if number == EARLY else number + 1)

    def stop(done: int, total: int) -> None:
        if done > BAD:
            raise _Died

    with pytest.raises(_Died):
        made(case.source, out, shard_bytes=1, on_error="skip", progress=stop)
    count = len(waiting(out))
    assert count > EARLY
    case.put(ITEMS - 1, 99)
    report = made(case.source, out, shard_bytes=1, on_error="skip")
    assert report.reused == count
    assert [name for name, _ in report.skipped] == [f"t.csv line {EARLY + 2}"]
    assert same_as_fresh(case.source, out, shard_bytes=1, on_error="skip")


def test_a_source_that_cannot_tell_its_parts_apart_says_so(tmp_path: Path, out: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > 50:
            raise _Died

    np.save(tmp_path / "a.npy", np.arange(800).reshape(100, 8))
    with pytest.raises(_Died):
        made(tmp_path / "a.npy", out, shard_bytes=640, progress=stop)
    assert waiting(out)
    np.save(tmp_path / "a.npy", np.arange(800).reshape(100, 8) + 1)
    report = made(tmp_path / "a.npy", out, shard_bytes=640)
    assert report.reused == 0
    assert any("of its kind it cannot be told where" in note for note in report.notes)
    assert ShardDataset(out).column("data").min() == 1
