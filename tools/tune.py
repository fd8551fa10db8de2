"""`recordio tune`: says what holds a loader back, and what to change, from measurement."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from recordio.display.text import error_text, json_line
from recordio.errors import RecordIOError, SchemaError
from recordio.tools.numbers import amount, whole_number
from recordio.tools.output import say
from recordio.tools.progress import Progress
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.tuning.tune import Tuning

SUMMARY = "say what holds a loader back, and what each change to it gains"
STOPPED = "stopped: nothing was changed"
EXAMPLES = """\
examples:
  recordio tune photos.rio --batch-size 256 --workers 2      a plain loader of this dataset
  recordio tune --loader train:make_loader --step train:step
                                   what make_loader() in train.py returns, and step(batch)
  recordio tune --loader train:make_loader --step-ms 40 --picture where.svg
"""
_MOST = 1 << 20
_number, _amount = whole_number(0, _MOST), amount(3_600_000)


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", metavar="DST", nargs="?", help="a dataset, for a plain loader of it")
    add("--loader", metavar="MODULE:FUNCTION", help="a function without arguments that returns the loader")
    add("--step", metavar="MODULE:FUNCTION", help="the training step: a function that takes a batch")
    add("--step-ms", type=_amount, metavar="N", help="a training step of N milliseconds, in place of a function")
    add("--seconds", type=_amount, default=2.0, metavar="N", help="that each measurement takes (2)")
    add("--rounds", type=_number, default=3, metavar="N", help="in which the loader and its changes take turns (3)")
    add("--no-trials", dest="trials", action="store_false", help="measure the loader as it is, and try nothing")
    add("--other-batch-size", action="store_true", help="also try a larger batch, which changes the training")
    add("--folder", metavar="DIR", help="where copies of a part of the dataset are made for trials, and removed")
    add("--batch-size", type=_number, default=256, metavar="N", help="of a plain loader (256)")
    add("--workers", type=_number, default=0, metavar="N", help="of a plain loader (0: the thread that asks)")
    add("--in-order", action="store_true", help="a plain loader without shuffling")
    add("--fields", type=lambda text: text.split(","), metavar="A,B", help="of a plain loader, these fields alone")
    add("--picture", metavar="FILE", help="draw what was found: .svg, or .html for a page")
    add("--json", action="store_true", help="print one line of JSON")
    add_storage_option(parser)


def run(options: argparse.Namespace) -> int:
    from recordio.tuning.report import facts_of
    from recordio.tuning.tune import tune

    if (options.path is None) == (options.loader is None):
        raise SchemaError("give a dataset, or --loader MODULE:FUNCTION for a loader of your own")
    if options.step is not None and options.step_ms is not None:
        raise SchemaError("give --step or --step-ms, not both")
    draw = None if options.picture is None else _drawing(options.picture)
    loader = _own(options.loader) if options.loader is not None else _plain(options)
    with Progress("measuring", "measurements", quiet=options.json) as progress, _users_functions():
        found = tune(
            loader,
            step=_step(options),
            seconds=options.seconds,
            rounds=options.rounds,
            batch_size_may_change=options.other_batch_size,
            trials=options.trials,
            folder=options.folder,
            progress=progress,
        )
    if draw is not None:
        _write(options.picture, str(draw(found)))
    say(json_line(facts_of(found)) if options.json else str(found))
    return 0


def _plain(options: argparse.Namespace) -> Any:
    import recordio

    dataset = recordio.ShardDataset(options.path, fields=options.fields, storage=options.storage)
    return recordio.DataLoader(
        dataset, options.batch_size, shuffle=not options.in_order, num_workers=options.workers, rank=0, world_size=1
    )


def _step(options: argparse.Namespace) -> Callable[[Any], Any] | None:
    if options.step_ms is not None:
        return partial(_sleep, options.step_ms / 1e3)
    return None if options.step is None else _function("--step", options.step)


def _sleep(seconds: float, batch: Any) -> None:
    time.sleep(seconds)


def _own(name: str) -> Any:
    """The loader that a function returns. Raises SchemaError."""
    function = _function("--loader", name)
    with _users_functions():
        loader = function()
    if not _is_loader(loader):
        from recordio.arguments import describe

        raise SchemaError(
            f"--loader {name} returned {describe(loader)}: expected a recordio.DataLoader, a recordio.torch.DataLoader "
            "or a torch.utils.data.DataLoader"
        )
    return loader


def _is_loader(value: Any) -> bool:
    import recordio

    if isinstance(value, recordio.DataLoader):
        return True
    return any(one.__name__ == "DataLoader" and one.__module__.startswith("torch.utils") for one in type(value).__mro__)


def _function(option: str, name: str) -> Callable[..., Any]:
    """A function of a module that can be imported from here. Raises SchemaError."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise SchemaError(f"{option} is {name!r}: expected MODULE:FUNCTION, such as train:make_loader")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with _users_functions():
            found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SchemaError(f"{option} {name}: there is no module {error.name!r} here or among the packages") from error
    for part in function.split("."):
        found = getattr(found, part, None)  # type: ignore[assignment]
    if not callable(found):
        from recordio.arguments import describe

        said = "there is no such function in the module" if found is None else f"it is {describe(found)}, no function"
        raise SchemaError(f"{option} {name}: {said}")
    return found


@contextmanager
def _users_functions() -> Iterator[None]:
    """An error of the user's own code becomes one line that says where it is."""
    try:
        yield
    except (RecordIOError, OSError, MemoryError, ModuleNotFoundError):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise SchemaError(f"{error_text(error)} ({place.filename}, line {place.lineno})") from error


def _drawing(path: str) -> Callable[[Tuning], str]:
    from recordio.tuning.picture import page, svg

    if path.lower().endswith((".html", ".htm")):
        return page
    if path.lower().endswith(".svg"):
        return svg
    raise SchemaError(f"--picture is {path!r}: expected a name that ends with .svg or .html")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise SchemaError(f"cannot write {path}: {error.strerror or error}") from error
