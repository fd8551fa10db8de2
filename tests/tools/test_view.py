"""`recordio view`: where the page goes."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from recordio.tools import view
from recordio.tools.main import main
from recordio.tools.viewer import page as page_module


def test_the_page_is_named_after_the_dataset_in_this_folder(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(dataset.iterdir())
    assert main(["view", str(dataset)]) == 0
    assert [path.name for path in Path().iterdir()] == ["pets.html"]
    assert capsys.readouterr().out.startswith("pets.html: ")
    dataset.rename(tmp_path / "cats.rio")
    assert main(["view", "../cats.rio"]) == 0
    assert Path("cats.html").exists()
    assert [path.name for path in before] == sorted(path.name for path in (tmp_path / "cats.rio").iterdir())


def test_a_file_that_is_there_is_kept(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "page.html"
    output.write_text("mine")
    assert main(["view", str(dataset), "--output", str(output)]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert main(["view", str(dataset), "--output", str(output), "--overwrite"]) == 0
    assert output.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "words",
    [
        ["--count", "x"],
        ["--serve", "65536"],
        ["--serve", "-1"],
        ["--serve", "٣"],
        ["--count", "٣"],
        ["--serve", "--count", "3"],
        ["--serve", "--output", "x.html"],
        ["--fields", "nothing"],
    ],
)
def test_wrong_use_exits_2_and_writes_nothing(
    words: list[str], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["view", str(dataset), *words]) == 2
    assert not list(tmp_path.glob("*.html"))


def test_no_dataset_exits_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["view", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("pets/manifest.json", "inside a dataset"),
        ("pets/page.html", "inside a dataset"),
        ("link/manifest.json", "inside a dataset"),
        ("pets", "this is a folder"),
        ("missing/page.html", "there is no folder for the page"),
        ("pipe", "no file that can be replaced"),
        ("", "names no file"),
    ],
)
def test_a_place_that_is_wrong_is_refused_before_the_page_is_made(
    output: str,
    words: str,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page_module, "one_file", lambda *_: pytest.fail("the page was made"))
    (tmp_path / "link").symlink_to(dataset)
    os.mkfifo("pipe")
    before = (dataset / "manifest.json").read_bytes()
    assert main(["view", str(dataset), "--output", output, "--overwrite"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Errno" not in err
    assert (dataset / "manifest.json").read_bytes() == before


def test_the_default_name_is_refused_in_the_dataset_itself(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset)
    before = sorted(dataset.iterdir())
    assert main(["view", "."]) == 2
    assert sorted(dataset.iterdir()) == before


def test_a_full_disk_leaves_the_old_page(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_full(path: str, mode: str) -> Full:
        Path(path).touch(exist_ok=False)
        return Full()

    output = tmp_path / "page.html"
    output.write_text("mine")
    monkeypatch.setattr(view, "open", open_full, raising=False)
    before = sorted(tmp_path.iterdir())
    assert main(["view", str(dataset), "--output", str(output), "--overwrite"]) == 2
    assert "the page cannot be written (No space left on device)" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == before
