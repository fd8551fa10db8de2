"""`recordio show --save`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.display.text import exact_json
from recordio.exports.files import file_names
from recordio.tools.main import main
from tests.photos import encode, photo


def save(path: Path, folder: Path, *words: object, code: int = 0) -> dict[str, Any]:
    """The samples as the list says, by number."""
    assert main(["show", str(path), "--save", str(folder), *map(str, words)]) == code
    lines = (folder / "samples.jsonl").read_text("utf-8").splitlines()
    return {line["index"]: line["sample"] for line in map(json.loads, lines)}


def test_values_become_files_by_kind(tmp_path: Path) -> None:
    schema = recordio.Schema(
        {
            "image": recordio.Image(),
            "sound": recordio.Bytes(),
            "text": recordio.Text(optional=True),
            "vector": recordio.Array("uint16", (2, 2)),
            "tree": recordio.Object(),
            "score": recordio.Scalar("float32"),
        }
    )
    jpeg, text, tree = encode(photo(8, 8)), "a\r\nnaïve\n", {"x": [1, None], "b": b"\0\1"}
    vector = np.array([[1, 2], [3, 65535]], "u2")
    with recordio.DatasetWriter(tmp_path / "ds", schema) as writer:
        for words in (text, None):
            writer.write(
                {"image": jpeg, "sound": b"fLaC1", "text": words, "vector": vector, "tree": tree, "score": float("nan")}
            )
    found = save(tmp_path / "ds", out := tmp_path / "new" / "out")
    assert found[0] == {
        "image": "0.image.jpg",
        "sound": "0.sound.flac",
        "text": "0.text.txt",
        "vector": "0.vector.npy",
        "tree": "0.tree.json",
        "score": "NaN",
    }
    assert found[1]["text"] is None
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["samples.jsonl", *(name for one in found.values() for name in one.values() if name and "." in name)]
    )
    assert (out / "0.image.jpg").read_bytes() == jpeg
    assert (out / "0.text.txt").read_bytes() == text.encode()
    assert np.array_equal(np.load(out / "0.vector.npy"), vector)
    assert json.loads((out / "0.tree.json").read_text()) == {"x": [1, None], "b": {"base64": "AAE="}}


def test_names_from_data_lead_nowhere_else(tmp_path: Path) -> None:
    names = ["../../up", "/etc/passwd", "..", "a/b", "a\\b", "A_b", 'q"\n\0', "x" * 200, "index"]
    schema = recordio.Schema({name: recordio.Text() for name in names})
    with recordio.DatasetWriter(tmp_path / "ds", schema) as writer:
        writer.write({name: name for name in names})
    found = save(tmp_path / "ds", out := tmp_path / "out")
    files = [path.name for path in out.iterdir()]
    assert len(files) == len(names) + 1
    assert {(out / file).read_text() for file in found[0].values()} == set(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ds", "out"]


def test_names_of_fields_stay_different() -> None:
    fields = ["a__2", "a?", "a!", "A_", "é", "è"]
    found = file_names(fields)
    assert list(found) == fields
    assert len({name.lower() for name in found.values()}) == len(fields)


def test_the_samples_are_those_that_show_prints(dataset: Path, tmp_path: Path) -> None:
    assert list(save(dataset, tmp_path / "1")) == [0, 1, 2]
    assert list(save(dataset, tmp_path / "2", "--count", 9)) == list(range(9))
    assert list(save(dataset, tmp_path / "3", "--index", -1)) == [19]
    assert save(dataset, tmp_path / "4", "--index", 3, "--fields", "words") == {3: {"words": "03.words.txt"}}


def test_each_split_has_a_folder(split_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(split_dataset), "--save", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "train" / "00.image.png").exists()
    assert (tmp_path / "out" / "test" / "0.image.png").exists()
    assert capsys.readouterr().out.splitlines()[0] == f"{tmp_path / 'out' / 'train'}: 3 samples in 10 files"


def test_nothing_is_overwritten(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    assert main(["show", str(dataset), "--save", str(tmp_path / "out")]) == 2
    assert "there is something already: name a new folder" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
    assert main(["show", str(dataset), "--save", str(tmp_path / "x"), "--json"]) == 2


def test_damaged_samples_are_left_out_and_counted(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shard,) = dataset.glob("*.rio")
    data = bytearray(shard.read_bytes())
    data[data.index(b"\x89PNG")] ^= 1
    shard.write_bytes(data)
    found = save(dataset, out := tmp_path / "out", "--count", 20, code=1)
    said = capsys.readouterr()
    assert 0 < len(found) < 20
    assert f"{20 - len(found)} samples left out; the first is sample 0: page checksum mismatch" in said.err
    assert "block 0" in said.err
    assert f"{len(found)} samples in {len(list(out.iterdir()))} files" in said.out


@pytest.mark.parametrize(("folder", "words"), [("", "names no folder"), ("file/out", "the folder cannot be made")])
def test_a_folder_that_cannot_be_made_is_refused_in_words(
    folder: str,
    words: str,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["show", str(dataset), "--save", folder]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Errno" not in err


def test_floats_that_json_lacks_are_text_in_both_places() -> None:
    assert exact_json({"a": [float("nan"), 1.5], "b": float("-inf")}) == '{"a": ["NaN", 1.5], "b": "-Infinity"}'


def test_an_object_too_deep_for_json_is_an_error() -> None:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(recordio.SchemaError, match="nested too deeply"):
        exact_json(deep)
