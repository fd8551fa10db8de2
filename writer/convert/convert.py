"""`recordio.convert`: makes a dataset of files, or of Python objects.

Planned first, made in units, committed once. Finished shards wait in DST/.convert, so a stopped conversion resumes; the
manifest comes last, so a partial conversion is never taken for a dataset.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from recordio.arguments import choice
from recordio.errors import DatasetError, SourceError
from recordio.format.manifest import FILE_NAME
from recordio.format.schema import Schema
from recordio.pickling import refuse_in_imported_main
from recordio.remote.opening import StorageArgument
from recordio.writer.convert.job import ConvertJob
from recordio.writer.convert.objects import is_path, object_job, object_splits, sample_maker
from recordio.writer.convert.plan import ConvertOptions
from recordio.writer.convert.progress import ProgressSink, TotalProgress
from recordio.writer.convert.publication import Publication, open_publication
from recordio.writer.convert.record import asked_options
from recordio.writer.convert.report import ConvertPlan as ConvertPlan, ConvertReport as ConvertReport
from recordio.writer.convert.stream import StreamJob
from recordio.writer.shard_writer import DEFAULT_SHARD_BYTES, WriteOptions
from recordio.writer.sources import SPLITS, SourceOptions, SourceSpec, TableOptions, find_sources
from recordio.writer.sources.archives.archive_paths import forget_archives
from recordio.writer.sources.tokens.text_options import TextOptions

Announce = Callable[[ConvertPlan], None]
Converted = ConvertReport | dict[str, ConvertReport] | ConvertPlan | dict[str, ConvertPlan]


def convert(
    source: Any,
    destination: str | os.PathLike[str],
    *,
    fn: Callable[[Any], Any] | None = None,
    schema: Schema | Mapping[str, Any] | None = None,
    identity: str | None = None,
    engine: str = "local",
    kind: str | None = None,
    split: str | None = None,
    compression: str | None = "auto",
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    block_bytes: int | None = None,
    resize: int | tuple[int, int] | None = None,
    quality: int | None = None,
    shuffle: int | None = None,
    limit: int | None = None,
    on_error: str = "raise",
    workers: int | None = None,
    progress: ProgressSink | None = None,
    announce: Announce | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    embed: str | Sequence[str] = (),
    root: str | os.PathLike[str] | None = None,
    check: bool = True,
    encoding: str | None = None,
    delimiter: str | None = None,
    quotes: bool | None = None,
    header: bool | None = None,
    columns: Sequence[str] = (),
    missing: str | Sequence[str] = (),
    skip_lines: int = 0,
    upright: bool = False,
    masks: str | Sequence[str] = (),
    mode: str | None = None,
    keep_names: bool | None = None,
    statistics: str = "auto",
    tokenizer: str | os.PathLike[str] | None = None,
    text_field: str | None = None,
    sequence_length: int | None = None,
    eos: str | None = None,
    parity: int | None = None,
    storage: StorageArgument = None,
) -> Converted:
    """Makes a dataset of a folder of images or other files, a table, a text, NumPy files, MNIST or CIFAR; or of Python
    objects.

        convert("photos/", "photos.rio")
        convert(paths, "texts.rio", fn=tokenized)  # fn(path) is a sample, a list or generator of samples, or None
        convert(torch_dataset, "train.rio", columns=("image", "label"))

    The same input and options give the same bytes, whatever `workers` is. A conversion that was stopped goes on where
    it was when it is run again, also after a bad input was mended, replaced or removed: finished shards whose own input
    and options did not change are used again, after their checksums were compared.

    A conversion that is finished is left as it is. It counts as finished if the options are the same, and so are name,
    size, times and inode of every file that the samples are read from; the file `.source` beside the manifest keeps a
    digest of these. So a file that another was moved over, or that a link or a folder on the way replaced, has changed,
    however it is dated. Renaming a folder above the source changes nothing. Two changes within a tick of the file
    system's clock, some milliseconds, may look like one.

    Of Python objects, lists of numbers, text, bytes, arrays and paths are compared by their values and the stamps of
    the files that they name, and `fn` by its bytecode. Others are taken for the same if their `identity` is.

    Args:
        source: the path of a file, folder or archive, or into an archive, or a pattern of files; or a list or dataset,
            anything with `len()` and `[i]`; or an iterable, which is read once, in this process, and begins anew after
            a stop.
        destination: the folder of the dataset; it is made if need be. Or "s3://bucket/path", "gs://",
            "az://container/path": shards are made in the folder for temporary files, about two a worker at a time, and
            sent as soon as they are finished; see docs/remote.md.
        fn: `fn(input)` is a sample (a dict), many (a list or an iterator of them) or none (None). It gets the items of
            Python objects, or the samples of any other source, and is called in the workers; for the first inputs, up
            to 64 samples or 64 MiB, in this process as well, to find out what they are. Its error is the input's.
        schema: the fields of the samples of Python objects or of `fn`; None takes those of the first 64.
        identity: a text that the caller changes whenever Python objects or `fn` change.
        engine: "local" is this process and `workers`; "ray" makes the shards on the Ray cluster that was connected to,
            and `destination` is a folder that all its machines share.
        kind: what the source is, one of `recordio.writer.sources.KINDS`; None looks.
        split: makes this split alone, at `destination`. Without it a source with splits becomes one dataset each at
            destination/<split>.
        compression: None, "auto" (code what pays), "narrow", "zstd", "narrow+zstd", or these with
            ":LEVEL"; docs/performance.md compares them.
        shard_bytes: about how many bytes of the source go into a shard.
        block_bytes: what a block aims at before coding: the unit of reading, checking and shuffling. None for 256 KiB,
            or for 2 KiB a field where that is more (from 129 fields on), but no more than `shard_bytes` then.
        resize: images are made smaller: an int is the shorter side in pixels, a pair the (height, width).
        quality: JPEG and WebP images are encoded anew with this quality, 1 to 100; a lossless WebP becomes lossy.
        shuffle: a seed from 0, by which the samples are mixed; None keeps the order of the names.
        limit: the first so many samples, after mixing, of each split.
        on_error: "raise" stops at a sample that cannot be read, "skip" leaves it out and lists it in the report.
        workers: processes; 0 and 1 are this one, None is one for each processor when there is more than one shard, or
            threads where pictures are decoded into few shards on up to four processors.
        progress: called as progress(samples done, samples to do). What an earlier run finished counts in neither. Of
            an iterable nobody knows how many there are: 0.
        announce: called with a ConvertPlan for each dataset, before anything is converted.
        dry_run: returns what would be made, a ConvertPlan in place of each report, and writes nothing. The source is
            listed and its beginning is read; errors of single samples only show when they are converted.
        overwrite: replaces another dataset at the destination; it stays whole until the new one stands.
        embed: columns of a table that name files; the files' contents take the place of the names.
        root: the folder that the names of files in a table count from; None for the table's own folder.
        keep_names: True adds a text field `file`, the name of the file that a sample is from; for a table, a field
            `<column>_file` for each embedded column. None keeps them for class folders and embedded columns, where
            nothing else names the files, as fields that are read on request alone: by `column("file")` or `fields=`.
            False keeps none.
        check: decodes each image once, so that a broken one is found now; False trusts their first bytes.
        encoding: what a table's text is encoded in, such as "cp1252"; None is UTF-8, or what its byte order mark says.
            A table without a mark that is no UTF-8 is read where its few letters are the same in all encodings for
            Latin script, with a note, or is refused. Tables that end in .gz, .bz2, .xz or .zst are unpacked.
        delimiter: the character between the cells of a table; None finds out whether it is a comma, a semicolon, a tab
            or a bar.
        quotes: whether quotes enclose cells, True, or are characters, False. None is True, but for cells between tabs
            the whole file decides.
        header: whether the first line of a table names its columns; None finds out, and asks where it cannot be told.
        columns: names for the columns of a table, in place of those in the file; names for the values of samples that
            are tuples; the fields that are taken of samples that are dicts.
        missing: cells that are missing values, in a column of text too, beside those that pandas takes for missing in
            columns of numbers: empty, NA, NaN, null and more. In a float64 NaN is a value.
        skip_lines: how many lines to leave out before the table.
        upright: images with an EXIF orientation are turned by it and encoded anew, without loss if the format has none.
            Images that are resized or recoded are turned in any case; reading never does.
        masks: fields whose images are masks: their values are kept, of a palette the indices, and they are resized to
            the nearest pixel. A field whose name says so (mask, label, seg, ...) is found to be one if all its images
            are lossless and have one channel or a palette.
        statistics: "full" decodes each image as it is stored, to know the mean and standard deviation of its channels.
            "auto" has them where images are decoded anyway: with `check`, unless they are resized or recoded.
        mode: what encoded images are read as, "RGB", "L" or "RGBA"; None is "RGB", and "L" for masks.
        tokenizer: a `tokenizer.json` of Hugging Face. The text becomes `tokens`, an array of uint16, or of int32 where
            the vocabulary is larger, and of the length that the text has. They are what `Tokenizer.encode` gives;
            truncation and padding are not done.
        text_field: the field of text that becomes tokens; None is `text`, or the only one.
        sequence_length: packs the tokens of all documents, end to end, into samples of this length. `documents`, int32
            of the same shape, says which document of the sample a token is of, from 0; other fields are left out, and
            so is the rest at the end that fills no sample, with a note.
        eos: a token of the vocabulary that follows each document, unless that ends with it already.
        parity: a file of parity for every so many shards, see `DatasetWriter`; finished shards are read again for it.
        storage: how an object store is reached, see `recordio.remote.options.StorageOptions`: endpoint, region, ...

    Returns:
        A ConvertReport, or a dict of them by split when the source has splits and `split` is None.

    Raises:
        SourceError: the source, or a sample of it, cannot be read; the message names the file.
        DecodeError: an image is broken; the message names the file.
        DatasetError: the destination holds something else, or another writer is at work there; no Ray cluster.
        WorkerError: other processes cannot import `fn`, or be given the source.
        SchemaError: an argument does not fit.
        StorageError: the system refused; finished shards are kept, and the next run goes on.
    """
    where = partial(_publication, destination, storage)
    choice("mode", mode, (None, "RGB", "L", "RGBA"))
    source_options = SourceOptions(
        embed=_texts(embed),
        root=None if root is None else os.fspath(root),
        table=TableOptions(encoding, delimiter, quotes, header, columns, missing, skip_lines),  # type: ignore[arg-type]
        masks=_texts(masks),
        mode=mode,
    )
    options = ConvertOptions(
        write=WriteOptions(compression=compression, shard_bytes=shard_bytes, block_bytes=block_bytes, parity=parity),
        resize=resize,
        quality=quality,
        shuffle=shuffle,
        limit=limit,
        on_error=on_error,
        workers=workers,
        overwrite=overwrite,
        check=check,
        upright=upright,
        keep_names=keep_names,
        statistics=statistics,
        engine=engine,
        maker=sample_maker(source, fn, schema, identity, source_options.table.columns, on_error),
        schema=schema,
        text=TextOptions(tokenizer, text_field, sequence_length, eos),
    )
    options = replace(options, asked=asked_options(kind, split, source_options, options))
    refuse_in_imported_main("convert")
    try:
        jobs = _jobs(source, kind, split, source_options, where, options)
        plans = {name: ConvertPlan.of(job) for name, job in jobs.items()}
        if dry_run:
            return plans.get("", plans)
        reports = _carried_out(plans, announce, progress)
    finally:
        forget_archives()
    return reports.get("", reports)


def _carried_out(
    plans: Mapping[str, ConvertPlan], announce: Announce | None, progress: ProgressSink | None
) -> dict[str, ConvertReport]:
    """Announces all plans, then makes the datasets, one after another."""
    if announce is not None:
        for plan in plans.values():
            announce(plan)
    jobs = {name: plan.job for name, plan in plans.items() if plan.job is not None}
    total = TotalProgress(progress, sum(job.inputs or 0 for job in jobs.values()))
    return {name: ConvertReport.of(job, job.run(total)) for name, job in jobs.items()}


def _publication(destination: str | os.PathLike[str], storage: StorageArgument, name: str) -> Publication:
    """Where the split of this name is made, "" for a dataset without splits."""
    return open_publication("destination", f"{os.fspath(destination)}/{name}" if name else destination, storage)


def _jobs(
    source: Any,
    kind: str | None,
    split: str | None,
    given: SourceOptions,
    at: Callable[[str], Publication],
    options: ConvertOptions,
) -> dict[str, ConvertJob | StreamJob]:
    """The conversions by the name of the folder that each makes, "" for the destination itself."""
    if is_path(source):
        specs = _specs(source, kind, split, given)
        _refuse_target(at(""), list(specs))
        return {name: ConvertJob(spec, at(name), options) for name, spec in specs.items()}
    parts = object_splits(source, split)
    _refuse_target(at(""), list(parts))
    return {name: object_job(part, kind, given, at(name), options) for name, part in parts.items()}


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _specs(
    source: str | os.PathLike[str], kind: str | None, split: str | None, options: SourceOptions
) -> dict[str, SourceSpec]:
    """The sources to convert by the name of the folder they go to, "" for the destination itself."""
    found = find_sources(source, kind, options)
    if split is None:
        return found
    if split not in found or not split:
        known = "it has no splits" if "" in found else f"there are {', '.join(found)}"
        raise SourceError(f"there is no split {split!r}: {known}").at(file=os.fspath(source))
    return {"": found[split]}


def _refuse_target(target: Publication, names: list[str]) -> None:
    """A folder is a dataset or holds datasets, never both."""
    if names != [""] and target.has(FILE_NAME):
        text = f"there is a dataset here, so its splits {', '.join(names)} cannot be; choose another folder"
        raise DatasetError(text).at(file=target.location)
    taken = [split for split in SPLITS if names == [""] and target.has(f"{split}/{FILE_NAME}")]
    if taken:
        text = f"there are datasets in this folder ({', '.join(taken)}), so it cannot be one; choose another"
        raise DatasetError(text).at(file=target.location)
