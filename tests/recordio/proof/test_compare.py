"""`recordio.compare`: a dataset is what its source holds, and every way in which it is not is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import recordio
from recordio import CorruptError, DatasetError, SchemaError, ShardDataset, SourceError
from recordio.proof.report import Comparison
from recordio.tools.main import main

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mixed": {"shuffle": 0, "limit": 7},
    "smaller": {"resize": 12},
    "recoded": {"quality": 40},
    "names": {"keep_names": True},
    "no names": {"keep_names": False},
    "unchecked": {"check": False},
    "as file groups": {"kind": "file_groups"},
}


def photos(folder: Path, count: int = 9) -> Path:
    rng = np.random.default_rng(0)
    for k in range(count):
        (folder / f"c{k % 3}").mkdir(parents=True, exist_ok=True)
        pixels = cv2.GaussianBlur(rng.integers(0, 256, (20 + k, 30, 3)).astype("u1"), (0, 0), 3)
        cv2.imwrite(str(folder / f"c{k % 3}" / f"{k:02}.jpg"), pixels)
    return folder


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("id,word", *lines)) + "\n")
    return path


def compared(path: Path, source: Any, **options: Any) -> Comparison:
    found = recordio.compare(path, source, **options)
    assert isinstance(found, Comparison)
    return found


@pytest.mark.parametrize("case", OPTIONS)
def test_a_conversion_is_its_source_whatever_its_options(tmp_path: Path, case: str) -> None:
    source = photos(tmp_path / "photos")
    recordio.convert(source, tmp_path / "a", shard_bytes=3000, **OPTIONS[case])
    found = compared(tmp_path / "a", source, workers=1)
    assert found.ok
    assert found.samples == len(ShardDataset(tmp_path / "a"))
    shutil.copytree(source, tmp_path / "copy")
    assert compared(tmp_path / "a", tmp_path / "copy", workers=1).ok


def test_processes_find_the_same_and_progress_counts_both_sides(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", *(f"{n},w{n}" for n in range(50)))
    recordio.convert(source, tmp_path / "a", shard_bytes=60)
    seen: list[tuple[int, int]] = []
    assert compared(tmp_path / "a", source, workers=2, progress=lambda done, total: seen.append((done, total))).ok
    assert seen[-1] == (100, 100)


def test_a_changed_value_is_named_with_both_values(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", "1,a", "2,b", "3,c", "4,d")
    recordio.convert(source, tmp_path / "a")
    table(source, "1,a", "2,x", "3,c", "9,d")
    found = compared(tmp_path / "a", source)
    assert (found.ok, found.changed, found.missing, found.additional) == (False, 2, 0, 0)
    assert [str(one) for one in found.differences] == [
        "changed - sample 1 - t.csv line 3 - word is str 'b', str 'x' in the source",
        "changed - sample 3 - t.csv line 5 - id is int 4, int 9 in the source",
    ]
    assert compared(tmp_path / "a", source, differences=1).changed == 2
    assert len(compared(tmp_path / "a", source, differences=1).differences) == 1
    json.dumps(found.to_json())


def test_missing_and_additional_samples_are_counted(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", "1,a", "2,b", "3,c", "4,d")
    recordio.convert(source, tmp_path / "a")
    table(source, "0,z", "1,a", "3,c", "4,d", "5,e")
    found = compared(tmp_path / "a", source)
    assert (found.changed, found.missing, found.additional, found.reordered) == (0, 2, 1, False)
    assert [one.kind for one in found.differences] == ["missing", "missing", "additional"]
    assert found.differences[2].sample == 1
    assert "line 2" in str(found.differences[0].source)


def test_an_equal_sample_more_is_missing(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", "1,a", "1,a")
    recordio.convert(source, tmp_path / "a")
    table(source, "1,a", "1,a", "1,a")
    assert compared(tmp_path / "a", source).missing == 1


def test_another_order_is_a_difference(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", "1,a", "2,b", "3,c")
    recordio.convert(source, tmp_path / "a")
    recordio.reshard(tmp_path / "a", tmp_path / "b", shuffle=1)
    found = compared(tmp_path / "b", source)
    assert found.reordered
    assert not found.ok
    assert (found.changed, found.missing, found.additional) == (0, 0, 0)
    recordio.reshard(tmp_path / "a", tmp_path / "c", block_bytes=1)
    assert compared(tmp_path / "c", source).ok


def test_other_fields_and_classes_are_differences(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", "1,a")
    recordio.convert(source, tmp_path / "a")
    table(source, "x,a")
    (found,) = compared(tmp_path / "a", source).differences
    assert str(found) == "fields - it is id: int64, word: text, id: text, word: text in the source"
    pictures = photos(tmp_path / "photos")
    recordio.convert(pictures, tmp_path / "b")
    (pictures / "c2").rename(pictures / "d")
    (one,) = compared(tmp_path / "b", pictures).differences
    assert (one.kind, list(one.fields)) == ("metadata", ["classes"])


def test_skipped_inputs_are_no_difference_until_they_are_mended(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    good = (source / "c0" / "00.jpg").read_bytes()
    (source / "c0" / "00.jpg").write_bytes(good[:200])
    recordio.convert(source, tmp_path / "a", on_error="skip")
    assert compared(tmp_path / "a", source).ok
    (source / "c1" / "01.jpg").write_bytes(good[:200])
    found = compared(tmp_path / "a", source)
    assert (found.unreadable, found.additional, found.missing) == (1, 1, 0)
    assert [(one.kind, bool(one.reason)) for one in found.differences] == [("additional", False), ("unreadable", True)]
    (source / "c0" / "00.jpg").write_bytes(good)
    found = compared(tmp_path / "a", source)
    assert (found.unreadable, found.missing) == (1, 1)
    assert str(found.differences[0]) == "missing - c0/00.jpg"


def doubled(n: int) -> list[dict[str, Any]]:
    return [{"n": n}, {"n": -n}]


def test_what_a_function_made_needs_the_function_again(tmp_path: Path) -> None:
    recordio.convert(list(range(1, 6)), tmp_path / "a", fn=doubled)
    with pytest.raises(SchemaError, match="made with fn, which it does not keep: give fn="):
        recordio.compare(tmp_path / "a", list(range(1, 6)))
    assert compared(tmp_path / "a", list(range(1, 6)), fn=doubled).samples == 10
    assert compared(tmp_path / "a", list(range(1, 6)), fn=doubled).ok
    assert compared(tmp_path / "a", list(range(1, 5)), fn=doubled).additional == 2
    with pytest.raises(SchemaError, match="an iterable is read once"):
        recordio.compare(tmp_path / "a", iter(range(1, 6)), fn=doubled)


def test_splits_are_compared_one_by_one(tmp_path: Path) -> None:
    for split in ("train", "val"):
        photos(tmp_path / "photos" / split, 3 if split == "val" else 6)
    recordio.convert(tmp_path / "photos", tmp_path / "a")
    found = recordio.compare(tmp_path / "a", tmp_path / "photos")
    assert isinstance(found, dict)
    assert {name: (one.ok, one.samples) for name, one in found.items()} == {"train": (True, 6), "val": (True, 3)}
    assert compared(tmp_path / "a" / "val", tmp_path / "photos", split="val").ok
    with pytest.raises(SchemaError, match="give split=, one of train, val"):
        recordio.compare(tmp_path / "a" / "val", tmp_path / "photos")
    recordio.convert(tmp_path / "photos", tmp_path / "b", split="train")
    assert compared(tmp_path / "b", tmp_path / "photos").ok


def test_what_is_no_conversion_is_refused(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", "1,a")
    recordio.convert(source, tmp_path / "a")
    recordio.convert(source, tmp_path / "b")
    recordio.merge(tmp_path / "c", [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(DatasetError, match="was made of other datasets"):
        recordio.compare(tmp_path / "c", source)
    with pytest.raises(DatasetError, match="not a recordio dataset"):
        recordio.compare(tmp_path / "none", source)
    with pytest.raises(SourceError, match="no such file"):
        recordio.compare(tmp_path / "a", tmp_path / "none")


def test_damage_of_the_dataset_is_damage(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", 3)
    recordio.convert(source, tmp_path / "a")
    shard = next((tmp_path / "a").glob("*.rio"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptError):
        recordio.compare(tmp_path / "a", source)


def test_a_strangers_record_gives_no_other_options(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", "1,a")
    record = {"options": {"overwrite": True, "announce": 1, "limit": 1, "fn": "x"}, "resize": None}
    with recordio.DatasetWriter(tmp_path / "a", metadata={"conversion": record}) as writer:
        writer.write({"id": 1, "word": "a"})
    assert compared(tmp_path / "a", source).ok


def test_the_command_says_ok_or_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(tmp_path / "t.csv", "1,a", "2,b")
    recordio.convert(source, tmp_path / "a")
    command = ["verify", str(tmp_path / "a"), "--against", str(source)]
    assert main(command) == 0
    assert f"OK  {tmp_path / 'a'}: 2 samples, each as {source} (csv) holds it" in capsys.readouterr().out
    table(source, "1,a", "2,c")
    assert main([*command, "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "changed - sample 1" in out
    assert f"FAILED  {tmp_path / 'a'}: 2 samples, not as {source} holds them: 1 changed" in out
    assert main([*command, "--json", "--differences", "0"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["datasets"][0]["ok"], said["datasets"][0]["against"]["changed"]) == (False, True, 1)
