"""`recordio.export`: the samples of a dataset or a view, in its order, as files of another format."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recordio.arguments import choice, flag, integer
from recordio.edit.reshard import stored_nbytes
from recordio.edit.sources import source_view, target_of
from recordio.errors import DatasetError, RecordIOError, SchemaError
from recordio.exports.folder import Folder
from recordio.exports.formats import ExportPart, Format
from recordio.exports.jsonl import JsonLines
from recordio.exports.mds import Mds
from recordio.exports.npy import Npy
from recordio.exports.parquet import Parquet
from recordio.exports.webdataset import WebDataset
from recordio.format.schema import Columns
from recordio.process_guard import ThreadPool
from recordio.reader.stored import chunk_indices, stored_columns
from recordio.reader.view import DatasetView
from recordio.remote.opening import StorageArgument, dataset_access
from recordio.remote.urls import is_url
from recordio.remote.write_target import RemoteTarget
from recordio.storage.atomic import FolderLock, sync_folder
from recordio.storage.base import storage_error
from recordio.storage.scratch import ScratchFolder
from recordio.writer.convert.engines import run_units
from recordio.writer.convert.plan import cut
from recordio.writer.convert.progress import ProgressSink, TotalProgress
from recordio.writer.convert.staging import Staging
from recordio.writer.convert.units import Report

FORMATS: dict[str, Callable[..., Format]] = {
    "webdataset": WebDataset,
    "parquet": Parquet,
    "mds": Mds,
    "folder": Folder,
    "npy": Npy,
    "jsonl": JsonLines,
}
_SMALL_NBYTES = 64 << 20  # so much is written sooner than processes start
_SYNCED_FILES = 1000  # more are synced together
_SENT_AT_A_TIME = 8


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        destination: the path of the folder.
        to: the format.
        samples: how many were written.
        files: how many files they are in.
        nbytes: the length of the files.
        notes: what is not in the files, in words.
    """

    destination: str
    to: str
    samples: int
    files: int
    nbytes: int
    notes: tuple[str, ...] = ()


def export(
    source: str | os.PathLike[str] | DatasetView,
    destination: str | os.PathLike[str],
    *,
    to: str,
    shard_bytes: int = 256 << 20,
    base64: bool = False,
    workers: int | None = None,
    storage: StorageArgument = None,
    progress: ProgressSink | None = None,
) -> ExportReport:
    """Writes the samples of a dataset as files of another format, for programs that read that.

        recordio.export("photos.rio", "photos", to="parquet")
        recordio.export(ds.filter(label=3), "threes", to="folder")

    Values are as stored: pictures are the files that they are, not decoded. A view of `filter`, `select` or `split`, of
    some fields, or of several datasets gives its samples in its order. A folder of this machine appears in one step
    once all is written, one in a store file by file; the same samples give the same files, whatever `workers` is.

    Args:
        source: the folder of a dataset, of which all fields are taken, or a dataset or view without transforms and
            maps.
        destination: a folder that is empty or not there, or a URL with nothing below it: the files are made in the
            folder for temporary files, then sent, each where nothing is.
        to: "webdataset" (tar files), "parquet" (as Hugging Face's datasets has it), "mds" (MosaicML Streaming),
            "folder" (class folders, or files and metadata.jsonl), "npy" (a file for each field) or "jsonl";
            docs/export.md says what becomes of each field.
        shard_bytes: about how many bytes of the dataset's files go into one file, where a format has several.
        base64: bytes and pictures become text, in "jsonl" alone; without it that format refuses them.
        workers: processes; 0 and 1 are this one, None is one for each processor if there is enough to do.
        storage: how object stores are reached, see `recordio.remote.options.StorageOptions`; a source in another store
            is given as a dataset.
        progress: called as progress(samples done, samples to do).

    Raises:
        SchemaError: the format cannot hold a field or a value; the message names it. Or an argument does not fit.
        DatasetError: the source is no dataset, or the destination is not empty, or is or lies in the source.
        CorruptError: the source is damaged.
        StorageError: the system refused. Whatever the error, nothing is left at the destination.
        MissingPackageError: "parquet" without pyarrow.
    """
    integer("workers", workers, 0, optional=True)
    integer("shard_bytes", shard_bytes, 1)
    choice("to", to, tuple(FORMATS))
    if flag("base64", base64) and to != "jsonl":
        raise SchemaError("base64 is for to='jsonl': the other formats hold bytes")
    view = source_view(source, storage)
    location, options = dataset_access("destination", destination, storage)
    target_of(location, view.parts, options)  # refuses what lies in a source
    form = FORMATS[to](view, base64) if base64 else FORMATS[to](view)
    work = _plan(view, form, shard_bytes, workers)
    total = TotalProgress(progress, len(view))
    with _sent(RemoteTarget(location, options)) if is_url(location) else _appearing(Path(location)) as folder:
        form.begin(folder, len(view))
        staging = Staging(folder)
        units = range(len(work.parts))
        written = dict(run_units(work, units, staging, total if total.asked else None))
        form.finish(folder, [written[number] for number in units])
        files = [path for path in folder.rglob("*") if path.is_file()]
        nbytes = sum(path.stat().st_size for path in files)
    return ExportReport(location, to, len(view), len(files), nbytes, form.notes)


@dataclass(frozen=True)
class ExportWork:
    """The parts of an export, for an engine."""

    view: DatasetView
    form: Format
    parts: tuple[ExportPart, ...]
    workers: int | None

    def samples(self, unit: int) -> int:
        return self.parts[unit].stop - self.parts[unit].start

    def make(self, unit: int, staging: Staging, report: Report, threads: int) -> tuple[int, Any]:
        """The number of the part, and what its format says of it."""
        part = self.parts[unit]
        with _writing(staging.folder):
            return unit, self.form.write(staging.folder, part, self._chunks(part, report))

    def _chunks(self, part: ExportPart, report: Report) -> Iterator[Columns]:
        for indices in chunk_indices(self.view, start=part.start, stop=part.stop):
            yield stored_columns(self.view, indices)
            report(int(indices[-1]) + 1 - part.start)


def _plan(view: DatasetView, form: Format, shard_bytes: int, workers: int | None) -> ExportWork:
    nbytes = stored_nbytes(view)
    ends = cut(nbytes, shard_bytes).tolist() if len(view) else [0, 0]  # a part without samples makes an empty file
    count = len(ends) - 1
    parts = tuple(ExportPart(k, count, ends[k], ends[k + 1], len(view)) for k in range(count))
    small = workers is None and int(nbytes.sum()) <= _SMALL_NBYTES
    return ExportWork(view, form, parts, 1 if small else workers)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target`, which takes its place at the end; on an error it is removed.

    One that a dead export has left is removed before. Raises DatasetError if there is something at `target`.
    """
    if target.exists() and any(target.iterdir()):
        raise DatasetError("the destination is not empty: name a new folder").at(file=str(target))
    folder = target.with_name(f".{target.name}.export")
    with FolderLock(folder), _writing(folder):
        try:
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            yield folder
            _make_durable([path for path in folder.rglob("*") if path.is_file()])
            os.rename(folder, target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _sent(target: RemoteTarget) -> Iterator[Path]:
    """A folder of this machine, whose files are sent at the end; on an error those are removed that were sent.

    Raises DatasetError if there is something at the target.
    """
    if target.list():
        raise DatasetError("the destination is not empty: name a new folder").at(file=target.location)
    scratch, sent = ScratchFolder(), list[str]()

    def send(path: Path) -> None:
        name = path.relative_to(scratch.path).as_posix()
        if not target.put_new(name, path):
            raise DatasetError("another writer has put a file there").at(file=f"{target.location}/{name}")
        sent.append(name)

    try:
        with _writing(scratch.path):
            yield scratch.path
        with ThreadPool(_SENT_AT_A_TIME, "recordio-export") as pool:
            deque(pool.map(send, sorted(path for path in scratch.path.rglob("*") if path.is_file())), maxlen=0)
    except BaseException:
        target.delete(sent)
        raise
    finally:
        scratch.remove()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Errors of the system become StorageError."""
    try:
        yield
    except RecordIOError:
        raise
    except OSError as error:
        raise storage_error("write", error.filename or folder, error) from error


def _make_durable(files: list[Path]) -> None:
    """Raises OSError."""
    if len(files) > _SYNCED_FILES:
        os.sync()
        return
    for path in files:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
