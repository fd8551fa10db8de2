"""`recordio view`: pictures, values and histograms of a dataset, as one HTML file or served on this machine."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recordio.display.text import bytes_text, clean, count_text
from recordio.errors import DatasetError, StorageError
from recordio.tools.output import say
from recordio.tools.show import count
from recordio.tools.splits import find_splits, naming, open_whole
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.tools.viewer.page import Shown

SUMMARY = "look at a dataset in a browser"
STOPPED = "stopped"
EXAMPLES = """\
examples:
  recordio view photos.rio                                one page, photos.html in this folder; open it in a browser
  recordio view photos.rio --count 500 --output p.html    more samples, evenly spread
  recordio view photos.rio --serve                        every sample, page by page, on 127.0.0.1 until Ctrl-C
"""
COUNT = 100
MAX_PORT = (1 << 16) - 1


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DST", help="a dataset, a folder of splits, or the URL of a dataset")
    parser.add_argument("--fields", type=lambda text: text.split(","), metavar="A,B", help="these fields only")
    parser.add_argument(
        "--count", type=count, metavar="N", help=f"samples of each dataset, evenly spread (default {COUNT})"
    )
    parser.add_argument("--output", metavar="FILE", help="the page to write (default: DST's name with .html, here)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument(
        "--serve",
        type=_port,
        nargs="?",
        const=0,
        metavar="PORT",
        help="write nothing, but serve all samples on 127.0.0.1, for everybody on this machine (default: a free port)",
    )
    add_storage_option(parser)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"not a port: {text!r}; expected 0 to {MAX_PORT}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    if options.serve is not None:
        _refuse_with_serve(options)
        from recordio.tools.viewer.server import serve

        serve(_open(options), _title(options.path), options.serve)
        return 0
    return _write(options)


def _refuse_with_serve(options: argparse.Namespace) -> None:
    given = [name for name in ("count", "output", "overwrite") if getattr(options, name) not in (None, False)]
    if given:
        raise DatasetError(f"--serve shows every sample and writes no file: leave out --{given[0]}")


def _open(options: argparse.Namespace) -> Sequence[Shown]:
    from recordio.tools.viewer.page import Shown

    shown, title = [], _title(options.path)
    for split in find_splits(options.path, options.storage):
        with naming(split):
            dataset, files = open_whole(split, options.fields)
        shown.append(Shown(split, dataset, files, title if split.name is None else f"{title} / {split.name}"))
    return shown


def _title(path: str) -> str:
    """The name of the dataset's folder."""
    return os.path.basename(os.path.abspath(path)) or "dataset"


def _write(options: argparse.Namespace) -> int:
    """Writes the page. 1 if a sample on it cannot be read, or its picture not be decoded, else 0."""
    from recordio.tools.viewer.page import one_file

    title = _title(options.path)
    output = f"{title.removesuffix('.rio')}.html" if options.output is None else options.output
    _check_output(output, options.overwrite)
    page = one_file(_open(options), title, COUNT if options.count is None else options.count)
    data = page.html.encode("utf-8")
    try:
        _write_file(os.path.realpath(output), data, options.overwrite)
    except OSError as error:
        raise StorageError(f"the page cannot be written ({error.strerror}): {output}") from error
    say(f"{clean(output)}: {bytes_text(len(data))}; open it in a browser")
    if page.damaged:
        say(f"  {count_text(page.damaged, 'sample')} on it cannot be read whole; the page says which and why")
    return int(page.damaged > 0)


def _check_output(output: str, overwrite: bool) -> None:
    """Raises DatasetError if the page cannot go there. Links are followed."""
    from recordio.format.manifest import FILE_NAME

    if not output:
        raise DatasetError("--output names no file")
    folder = os.path.dirname(os.path.realpath(output))
    if not os.path.isdir(folder):
        raise DatasetError(f"there is no folder for the page: make it first, or --output names another: {folder}")
    if os.path.lexists(os.path.join(folder, FILE_NAME)):
        raise DatasetError(f"the page would lie inside a dataset: --output names another place: {output}")
    if os.path.isdir(output):
        raise DatasetError(f"this is a folder: --output takes the name of a file: {output}")
    if os.path.lexists(output) and not overwrite:
        raise DatasetError(f"there is a file already: --overwrite replaces it, --output gives another: {output}")
    if os.path.exists(output) and not os.path.isfile(output):
        raise DatasetError(f"this is no file that can be replaced: --output names another: {output}")


def _write_file(path: str, data: bytes, overwrite: bool) -> None:
    """Writes a whole file or none: the one that it replaces stays until then."""
    part = f"{path}.{os.getpid()}.part" if overwrite else path
    with open(part, "xb") as file:
        try:
            file.write(data)
            file.flush()
        except BaseException:
            os.unlink(part)
            raise
    if overwrite:
        os.replace(part, path)
