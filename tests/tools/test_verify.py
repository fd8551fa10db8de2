"""`recordio verify`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import recordio
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.tools.main import main
from recordio.tools.progress import ERASE_LINE, Progress
from tests.tools.commands import flip, printed

verified = partial(printed, "verify")


def test_verify_prints_ok_with_counts(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = verified(capsys, dataset).splitlines()
    blocks = sum(shard.blocks for shard in recordio.ShardDataset(dataset).store.manifest.shards)
    assert line.startswith(f"OK  {dataset}: 1 shard, {blocks} blocks, 20 samples, ")
    assert re.search(r", \d[\d.]* k?B in [\d.]+ m?s, \d[\d.]* [kMG]?B/s$", line)


def test_quick_verify_says_so(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(capsys, dataset, "--quick").endswith(" (quick: pages were not read)\n")


def test_flipped_bit_is_located_to_its_page(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(dataset)
    (problem,) = recordio.verify(dataset).problems
    line, last = verified(capsys, dataset, code=1).splitlines()
    assert line == str(problem)
    assert "shard-00000.rio, block 0, field 'image', byte " in line
    assert last == f"FAILED  {dataset}: 1 problem"


def cut(dataset: Path, nbytes: int, known: bool) -> None:
    """Truncates the only shard to `nbytes`; with `known`, the manifest agrees."""
    (shard,) = dataset.glob("*.rio")
    os.truncate(shard, nbytes)
    if known:
        manifest = Manifest.decode((dataset / FILE_NAME).read_bytes())
        entry = replace(manifest.shards[0], nbytes=nbytes, samples=0, runs=())
        (dataset / FILE_NAME).write_bytes(replace(manifest, shards=[entry]).encode())


@pytest.mark.parametrize("known", [False, True], ids=["the manifest knows more", "the manifest agrees"])
@pytest.mark.parametrize("nbytes", [0, 1, 100, 127, 128, 200])
def test_truncated_shard_is_damage_to_every_command(
    dataset: Path, capsys: pytest.CaptureFixture[str], nbytes: int, known: bool
) -> None:
    cut(dataset, nbytes, known)
    for words in ((), ("--quick",)):
        assert verified(capsys, dataset, *words, code=1).endswith(f"FAILED  {dataset}: 1 problem\n")
        report = json.loads(verified(capsys, dataset, "--json", *words, code=1))
        (problem,) = report["datasets"][0]["problems"]
        assert not report["ok"]
        assert problem["kind"] == "CorruptError"
    for command in (["info"], ["info", "--json"], ["show"], ["show", "--json"]):
        assert main([*command, str(dataset)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
    with pytest.raises(recordio.CorruptError):
        recordio.ShardDataset(dataset)


def test_quick_verify_does_not_read_pages(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(dataset)
    verified(capsys, dataset, "--quick", code=0)


def test_every_problem_is_listed(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(dataset)
    (shard,) = dataset.glob("*.rio")
    data = bytearray(shard.read_bytes())
    data[data.rindex(b"\x89PNG") + 9] ^= 1
    shard.write_bytes(data)
    lines = verified(capsys, dataset, code=1).splitlines()
    assert len(lines) == 3
    assert lines[-1].endswith(": 2 problems")


def test_verify_json_has_one_form_for_one_and_many(
    dataset: Path, split_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = json.loads(verified(capsys, dataset, "--json"))
    assert one == {"ok": True, "datasets": [{"split": None, **recordio.verify(dataset).to_json()}]}
    flip(split_dataset / "test")
    many = json.loads(verified(capsys, split_dataset, "--json", code=1))
    assert (many["ok"], [d["split"] for d in many["datasets"]]) == (False, ["train", "test"])
    assert [d["ok"] for d in many["datasets"]] == [True, False]
    assert many["datasets"][1]["problems"][0]["field"] == "image"


def test_verify_reports_each_split(split_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(split_dataset / "train")
    problem, train, test = verified(capsys, split_dataset, code=1).splitlines()
    assert problem.startswith("train: ")
    assert train.startswith(f"FAILED  {split_dataset / 'train'}: 1 problem")
    assert test.startswith(f"OK  {split_dataset / 'test'}: ")
    verified(capsys, split_dataset / "test", code=0)


def test_damaged_manifest_exits_1(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (dataset / "manifest.json").read_bytes()
    (dataset / "manifest.json").write_bytes(data[:-1])
    assert "manifest" in verified(capsys, dataset, code=1)
    assert json.loads(verified(capsys, dataset, "--json", code=1))["ok"] is False


def test_broken_split_does_not_stop_verify(split_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (split_dataset / "train" / "manifest.json").unlink()
    problem, train, test = verified(capsys, split_dataset, code=2).splitlines()
    assert problem.startswith("train: not a recordio dataset")
    assert train.startswith("FAILED")
    assert test.startswith("OK")


def test_path_without_a_dataset_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("recordio: error: not a recordio dataset")


def test_hostile_dataset_names_are_escaped(hostile_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = verified(capsys, hostile_dataset)
    (shard,) = hostile_dataset.glob("*.rio")
    data = bytearray(shard.read_bytes())
    data[data.rindex(b"\x1b]0;pwned")] ^= 1  # in the last field's page
    shard.write_bytes(data)
    out += verified(capsys, hostile_dataset, code=1) + verified(capsys, hostile_dataset, "--json", code=1)
    assert "field 'tree\\x1b]0;pwned" in out
    assert all(line.isprintable() for line in out.split("\n"))


def test_ctrl_c_message_says_nothing_is_proved(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress, done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", stop)
    assert main(["verify", str(dataset)]) == 130
    assert capsys.readouterr() == (
        "",
        "recordio: stopped before the end: nothing is proved; run the same command again\n",
    )


def on_a_terminal(*words: object) -> tuple[int, str]:
    """The exit code and the output on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "recordio", *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment["TERM"] = "xterm"
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    sent = b""
    try:
        while part := os.read(ours, 4096):
            sent += part
    except OSError:  # how Linux reports that the other end is closed
        pass
    os.close(ours)
    return process.wait(), sent.decode()


def test_verify_shows_and_erases_a_bar(dataset: Path) -> None:
    code, sent = on_a_terminal("verify", dataset)
    assert code == 0
    assert re.search(r"\rverify  \[=* *\] +\d+ %", sent)
    *_, last, end = sent.split("\r\n")
    assert last.rpartition("\r")[2].startswith(f"{ERASE_LINE}OK  {dataset}: ")
    assert end == ""


def test_verify_json_shows_no_bar(dataset: Path) -> None:
    _, sent = on_a_terminal("verify", dataset, "--json")
    assert json.loads(sent)["ok"] is True


def test_real_ctrl_c_ends_with_one_line(dataset: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "import recordio.tools.verify as command\n"
        "from recordio.tools.main import main\n"
        "command.find_splits = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        f"sys.exit(main(['verify', {str(dataset)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
