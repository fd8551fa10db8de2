"""`recordio`: the commands, and what every one of them shares: exit codes, errors in one line, Ctrl-C, closed pipes.

Exit codes: 0 good, 1 damage found, 2 wrong use or any other error of the user or the system, 130 stopped by Ctrl-C,
141 the reader of our output went away (what a shell shows for SIGPIPE).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, TextIO

from recordio.errors import CorruptError, RecordIOError
from recordio.tools import convert, info, show, verify
from recordio.tools.output import OutputClosed, clean, write

GOOD, DAMAGED, WRONG, STOPPED, UNHEARD = 0, 1, 2, 130, 141

# Each has SUMMARY, EXAMPLES, STOPPED (what to say after Ctrl-C), add_options(parser) and run(options) -> exit code.
COMMANDS: dict[str, ModuleType] = {"convert": convert, "verify": verify, "info": info, "show": show}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the process's arguments when `argv` is None. Returns the exit code."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help, the version or what is wrong
        return int(stop.code or 0)
    command = COMMANDS[options.command]
    try:
        code: int = command.run(options)
        write(sys.stdout, "", flush=True)
    except OutputClosed:
        code = UNHEARD
    except KeyboardInterrupt:
        code = _complain(STOPPED, command.STOPPED)
    except CorruptError as error:
        code = _complain(DAMAGED, f"error: {error}")
    except (RecordIOError, OSError) as error:
        code = _complain(WRONG, f"error: {error}")
    if code != GOOD:
        _release(sys.stdout)
    return code


def _complain(code: int, words: str) -> int:
    """One line; an error that lists several faults has one line more for each."""
    lines = "\n  ".join(clean(line.strip()) for line in words.split("\n") if line.strip())
    with suppress(OutputClosed, OSError):  # nobody is left to tell
        write(sys.stderr, f"recordio: {lines}\n", flush=True)
    return code


def _release(stream: TextIO) -> None:
    """Sends what cannot be written any more nowhere: Python would complain about it when the process ends."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


class _Version(argparse.Action):
    """Looks the version up when it is asked for, not at each start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import recordio

        write(sys.stdout, f"recordio {recordio.__version__}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recordio",
        description="Sharded, checksummed record files for training data.",
        epilog="Exit code: 0 good, 1 damage found, 2 wrong use or another error, 130 stopped by Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print the version and leave"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_options(
            commands.add_parser(
                name,
                help=command.SUMMARY,
                description=command.SUMMARY[:1].upper() + command.SUMMARY[1:] + ".",
                formatter_class=argparse.RawDescriptionHelpFormatter,
                epilog=command.EXAMPLES,
                allow_abbrev=False,
            )
        )
    return parser
