"""`recordio`: runs a command. Exit codes, one-line errors, Ctrl-C and closed pipes are handled here.

Exit codes: 0 success, 1 damage found, 2 wrong use or any other error, 130 stopped by Ctrl-C, 141 output pipe closed
(the shell's code for SIGPIPE).
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import NoReturn, TextIO

from recordio.display.text import clean, cut
from recordio.errors import CorruptError, RecordIOError
from recordio.tools import (
    append,
    bench,
    cache,
    clean as clean_command,
    convert,
    copy,
    diff,
    export,
    info,
    merge,
    parity,
    plan,
    repair,
    reshard,
    show,
    sign,
    split,
    tune,
    verify,
    view,
)
from recordio.tools.output import OutputClosed, write

MAX_COLUMNS = 4000  # of a line of an error: it may list a stranger's names
GOOD, DAMAGED, WRONG, STOPPED, PIPE_CLOSED = 0, 1, 2, 130, 141

# Each has SUMMARY, EXAMPLES, STOPPED (printed after Ctrl-C), add_options(parser) and run(options) -> exit code.
COMMANDS: dict[str, ModuleType] = {
    "convert": convert,
    "verify": verify,
    "sign": sign,
    "repair": repair,
    "parity": parity,
    "diff": diff,
    "info": info,
    "show": show,
    "view": view,
    "merge": merge,
    "append": append,
    "reshard": reshard,
    "split": split,
    "export": export,
    "copy": copy,
    "cache": cache,
    "plan": plan,
    "tune": tune,
    "bench": bench,
    "clean": clean_command,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the process's arguments when `argv` is None. Returns the exit code."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        is_verbose, for_version = vars(options).pop("v"), vars(options).pop("version")
        if options.command is None and not for_version:
            parser.error("the following arguments are required: COMMAND")
    except SystemExit as stop:  # argparse has printed help or an error
        return int(stop.code or 0)
    if for_version:
        write(sys.stdout, _version(is_verbose))
        return GOOD
    command = COMMANDS[options.command]
    if argv is None and command is convert:  # this process is ours, and C libraries would write into its progress
        # NumPy's matrix library would start threads, which spin for 40 ms, in this process and in every worker.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from recordio.process_guard import silence_libraries

        silence_libraries()
    try:
        code: int = command.run(options)
        write(sys.stdout, "", flush=True)
    except OutputClosed:
        code = PIPE_CLOSED
    except KeyboardInterrupt:
        code = _complain(STOPPED, command.STOPPED)
    except (RecordIOError, OSError) as error:
        words = "\n".join([f"error: {error}", *getattr(error, "__notes__", ())])
        code = _complain(DAMAGED if isinstance(error, CorruptError) else WRONG, words)
    except MemoryError as error:
        code = _complain(WRONG, f"error: there is not enough memory{': ' if str(error) else ''}{error}")
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        code = _complain(WRONG, _fault_of_ours(error))
    if code != GOOD:
        _release(sys.stdout)
    return code


def _fault_of_ours(error: Exception) -> str:
    """One line: a traceback would leave with Python's exit code 1, which says here that a dataset is damaged."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(place.filename)}, line {place.lineno}"
    return (
        f"error: {type(error).__name__}: {error} ({where}): this is a fault of recordio, please report it; "
        "python -X dev -m recordio ... prints where it comes from"
    )


def _complain(code: int, words: str) -> int:
    """Prints one line, and one more for each fault that the error lists."""
    lines = "\n  ".join(cut(line.strip(), MAX_COLUMNS) for line in words.split("\n") if line.strip())
    with suppress(OutputClosed, OSError):  # nobody is reading
        write(sys.stderr, f"recordio: {lines}\n", flush=True)
    return code


def _release(stream: TextIO) -> None:
    """Redirects unwritable output to os.devnull: Python would complain about it at exit."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


class _Parser(argparse.ArgumentParser):
    """Its errors repeat words of the command line, which may be those of a file."""

    def error(self, message: str) -> NoReturn:
        super().error(clean(message))


def _version(is_verbose: bool) -> str:
    import recordio

    found = f"recordio {recordio.__version__}\n"
    if is_verbose:
        from recordio import kernels

        found += f"Python {platform.python_version()} on {platform.system()} {platform.machine()}\n"
        found += f"kernels in C: {kernels.state}\n"
    return found


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="recordio",
        description="Sharded, checksummed record files for training data.",
        epilog="Exit code: 0 good, 1 damage found, 2 wrong use or another error, 130 stopped by Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    parser.add_argument("-v", action="store_true", help="with --version: and whether the kernels in C are in use")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
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
