"""Common to all commands: exit codes, one-line errors, Ctrl-C, closed pipes, fast help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import recordio
from recordio import kernels
from recordio.tools import main as main_module
from recordio.tools.main import main

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
PYTHON = [sys.executable, "-W", "error", "-m", "recordio"]


def command(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    """Adds a command `fake` that raises or returns `outcome`."""

    def run(options: Any) -> Any:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    fake = SimpleNamespace(
        SUMMARY="do it", EXAMPLES="", STOPPED="stopped: go on", add_options=lambda parser: None, run=run
    )
    monkeypatch.setitem(main_module.COMMANDS, "fake", fake)


def test_missing_command_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: recordio" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["info"],
        ["info", "a", "b"],
        ["verify", "a", "--fast"],
        ["show", "a", "--index", "x"],
        ["verify", "a", "--qui"],
    ],
)
def test_wrong_use_exits_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "error: " in capsys.readouterr().err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n    {name} " in out for name in ("convert", "verify", "repair", "diff", "info", "show", "bench"))


@pytest.mark.parametrize("name", main_module.COMMANDS)
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"  recordio {name} " in capsys.readouterr().out


def test_version_option_prints_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"recordio {recordio.__version__}\n"


@pytest.mark.parametrize("words", [["--version", "-v"], ["-v", "--version"]])
def test_version_says_at_length_whether_there_are_kernels(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"recordio {recordio.__version__}"
    assert out[1].startswith("Python 3.")
    assert out[2] == f"kernels in C: {kernels.state}"


def test_a_command_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-v"]) == 2
    assert "required: COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        recordio.SourceError("cannot read"),
        recordio.DatasetError("no dataset"),
        recordio.StorageError("disk full"),
        recordio.SchemaError("no such field"),
        recordio.UnsupportedError("version 9"),
        recordio.MissingPackageError("pip install it"),
        PermissionError(13, "Permission denied", "x"),
    ],
)
def test_user_or_system_error_exits_2_with_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, error)
    assert main(["fake"]) == 2
    assert capsys.readouterr() == ("", f"recordio: error: {error}\n")


def test_damage_exits_1_with_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, recordio.CorruptError("page checksum mismatch").at(file="shard-00003.rio", block=17))
    assert main(["fake"]) == 1
    assert capsys.readouterr().err == "recordio: error: page checksum mismatch - shard-00003.rio, block 17\n"


def test_error_with_several_faults_has_a_line_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = ("a\x1b", "b\nOK")
    command(monkeypatch, recordio.CorruptError("2 shards are wrong", problems=problems).at(file="there\nOK"))
    assert main(["fake"]) == 1
    assert capsys.readouterr().err == "recordio: error: 2 shards are wrong - there\\nOK\n  a\\x1b\n  b\\nOK\n"


def test_ctrl_c_exits_130_with_advice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, KeyboardInterrupt())
    assert main(["fake"]) == 130
    assert capsys.readouterr().err == "recordio: stopped: go on\n"


def test_lack_of_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, MemoryError("Unable to allocate 9 GiB"))
    assert main(["fake"]) == 2
    assert capsys.readouterr().err == "recordio: error: there is not enough memory: Unable to allocate 9 GiB\n"


def test_a_fault_of_recordio_is_no_damage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, ValueError("a bug\x1b"))
    assert main(["fake"]) == 2
    found = capsys.readouterr().err
    assert found.startswith("recordio: error: ValueError: a bug\\x1b (test_main.py, line ")
    assert "please report it" in found
    assert found.count("\n") == 1


def test_development_mode_prints_where_a_fault_of_recordio_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, ValueError("a bug"))
    monkeypatch.setattr(main_module, "sys", SimpleNamespace(flags=SimpleNamespace(dev_mode=True), stdout=sys.stdout))
    with pytest.raises(ValueError, match="a bug"):
        main(["fake"])


@pytest.mark.parametrize("words", [["\x1b[1m"], ["info", "--\x1b[1m"], ["show", "x", "--index", "\x1b[1m"]])
def test_words_of_the_command_line_are_escaped(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_control_characters_in_an_error_are_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, recordio.CorruptError("bad").at(file="\x1b[2Jname", field="f\x9b"))
    assert main(["fake"]) == 1
    assert "\\x1b[2Jname" in (err := capsys.readouterr().err)
    assert err.rstrip("\n").isprintable()


def test_an_error_that_lists_a_megabyte_of_names_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, recordio.SourceError("there are " + "x, " * 1_000_000))
    assert main(["fake"]) == 2
    found = capsys.readouterr().err
    assert len(found) < 4100
    assert found.endswith("...\n")


def test_closed_pipe_stops_the_output(dataset: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PYTHON, "show", str(dataset)], stdout=write, stderr=subprocess.PIPE, check=False, env=BUFFERED
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_head_ends_a_long_show_silently(dataset: Path) -> None:
    line = f"{' '.join(PYTHON)} show --json --count 20 '{dataset}' | head -n 1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env=BUFFERED)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk_is_a_one_line_error(dataset: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PYTHON, "info", str(dataset)], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED
        )
    assert done.returncode == 2
    assert done.stderr == "recordio: error: [Errno 28] No space left on device\n"


def test_unencodable_output_is_escaped(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYTHON, "info", str(tmp_path / "naïve")],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"recordio: error: not a recordio dataset")
    assert b"na\\xefve" in done.stderr


def test_non_utf8_path_does_not_crash(tmp_path: Path) -> None:
    done = subprocess.run([*PYTHON, "info", os.fsencode(tmp_path) + b"/\xff"], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"\\udcff" in done.stderr
    assert b"Traceback" not in done.stderr


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from recordio.tools.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "msgpack", "zstandard", "xxhash", "multiprocessing"} & set(done.stderr.split())
