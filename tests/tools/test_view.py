"""`recordio view`: where the page goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from recordio.tools.main import main


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
