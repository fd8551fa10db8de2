"""`recordio convert`: makes a dataset from a folder, a table or an archive."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from recordio.display.text import bytes_text, clean, count_text, json_line, listed
from recordio.tools.output import say, seconds_text, table
from recordio.tools.progress import Progress, rate_text
from recordio.tools.sizes import nbytes
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.format.fields import Field
    from recordio.writer.convert.convert import ConvertPlan, ConvertReport

SUMMARY = "turn a folder, a table or an archive into a dataset"
STOPPED = "stopped: what is finished is kept; run the same command to go on"
EXAMPLES = """\
examples:
  recordio convert photos/ photos.rio                       a folder for each class
  recordio convert photos.zip photos.rio                    the same, without unpacking it
  recordio convert 'shards-{000..009}.tar' data.rio         WebDataset; also one tar, or a folder of them
  recordio convert photos/ photos.rio --dry-run             what would be made: kind, classes, fields, size
  recordio convert photos/ small.rio --resize 256 --quality 90
  recordio convert table.csv table.rio --embed picture      the column names files; take them in
  recordio convert table.csv table.rio --encoding cp1252 --delimiter tab --missing '?' --no-header --columns id,x,label
  recordio convert corpus.txt tokens.rio --tokenizer tokenizer.json --sequence-length 2048 --eos '<|endoftext|>'
  recordio convert features.h5 features.rio                 the datasets with as many rows are fields
  recordio convert data/ data.rio                           Parquet files, as the hub has them: a dataset a split
  recordio convert 'part-{00..07}.parquet' data.rio         some of them
  recordio convert saved/ data.rio                          what save_to_disk of Hugging Face's datasets has written
  recordio convert mnist/ mnist.rio --split train           one split; without it each at DST/SPLIT
  recordio convert 'tfrecords/train-*' train.rio            TFRecord files, their types found by looking
  recordio convert photos/ s3://bucket/photos               into an object store; --storage says how it is reached
  recordio convert photos/ photos.rio --parity 16           any shard of 16 that is lost comes back; takes 6 % more
  recordio convert photos/ photos.rio --on-error skip       leave out what cannot be read, and list it
"""
KINDS = (
    "image_folder, audio_folder, text_folder, file_groups, paired_folders, yolo, voc, coco, indexed_files, csv, tsv, "
    "jsonl, tfrecord, array_record, bagz, mds, litdata, parquet, arrow, hf_dataset, text_lines, npy, npz, webdataset, "
    "hdf5, zarr, lmdb, mnist, cifar10 or cifar100"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options left out are not passed on: the defaults are the library's."""
    add = parser.add_argument
    parser.argument_default = argparse.SUPPRESS
    add("source", metavar="SRC", help="the input: a folder or a file")
    add("destination", metavar="DST", help="the dataset to make")
    add("--kind", metavar="KIND", help=f"what SRC is, where looking is not enough: {KINDS}")
    add("--split", metavar="NAME", help="make this split alone, at DST")
    add("--compression", metavar="HOW", help="auto, none, narrow, zstd[:LEVEL] or narrow+zstd[:LEVEL]")
    add("--shard-bytes", type=nbytes, metavar="SIZE", help="about what goes into a shard, such as 256MiB")
    add("--block-bytes", type=nbytes, metavar="SIZE", help="gather samples into blocks of this size, such as 256KiB")
    add("--shuffle", type=int, metavar="SEED", help="mix the samples by this seed")
    add("--limit", type=int, metavar="N", help="take the first N samples of each split, after mixing")
    add("--on-error", choices=("raise", "skip"), help="what to do about an input that cannot be read")
    add("--workers", type=int, metavar="N", help="processes; the result does not depend on their number")
    add("--engine", choices=("local", "ray"), help="ray: on the cluster of RAY_ADDRESS, or that of this machine")
    add(
        "--embed",
        action="append",
        metavar="COLUMN",
        help="this column of the table names files: take in what they hold; may be given again",
    )
    add("--root", metavar="DIR", help="the folder that the names of files in a table count from; else the table's own")
    add(
        "--keep-names",
        action=argparse.BooleanOptionalAction,
        help="the name of each sample's file is a field of it, `file`; by default it is kept, and read on request",
    )
    add(
        "--parity",
        type=int,
        metavar="N",
        help="a file for every N shards, from which repair gives any one of them back",
    )
    add("--dry-run", action="store_true", help="say what would be made, and write nothing")
    add("--overwrite", action="store_true", help="replace a dataset that is at DST")
    add_storage_option(parser)
    _add_picture_options(parser.add_argument_group("pictures").add_argument)
    _add_table_options(parser.add_argument_group("tables, where their content does not tell").add_argument)
    _add_text_options(parser.add_argument_group("texts").add_argument)
    add("--json", action="store_true", default=False, help="print one line of JSON")


def _add_picture_options(add: Callable[..., Any]) -> None:
    add(
        "--resize",
        type=picture_size,
        metavar="N|HxW",
        help="make pictures smaller: their shorter side, or their height and width",
    )
    add("--quality", type=int, metavar="Q", help="code JPEG and WebP pictures anew with this quality, 1 to 100")
    add("--upright", action="store_true", help="turn pictures as their EXIF orientation says")
    add(
        "--masks",
        action="append",
        metavar="FIELD",
        help="the pictures of this field are masks: keep their values; may be given again",
    )
    add("--mode", choices=("RGB", "L", "RGBA"), help="what pictures are read as")
    add(
        "--statistics",
        choices=("auto", "full"),
        help="full: decode pictures once more where needed, for the mean and deviation of their channels",
    )
    add("--no-check", dest="check", action="store_false", help="do not decode each picture to prove it whole")


def _add_table_options(add: Callable[..., Any]) -> None:
    yes_or_no = argparse.BooleanOptionalAction
    add("--encoding", metavar="NAME", help="what the text is encoded in, such as cp1252 or utf-16")
    add("--delimiter", type=delimiter, metavar="MARK", help="the character between cells, or: tab, space")
    add("--quotes", action=yes_or_no, help="quotes enclose cells, or are characters")
    add("--header", action=yes_or_no, help="the first line names the columns, or is a row")
    add("--columns", type=lambda text: text.split(","), metavar="A,B,...", help="the names of the columns")
    add("--missing", action="append", metavar="CELL", help="a cell with this text is missing; may be given again")
    add("--skip-lines", type=int, metavar="N", help="leave out so many lines before the table")


def _add_text_options(add: Callable[..., Any]) -> None:
    add("--tokenizer", metavar="FILE", help="a tokenizer.json of Hugging Face: the text becomes `tokens`")
    add("--text-field", metavar="FIELD", help="the field that becomes tokens; else `text`, or the only one of text")
    add("--sequence-length", type=int, metavar="N", help="pack the tokens of all documents into samples of N")
    add("--eos", metavar="TOKEN", help="the token after each document")


def delimiter(text: str) -> str:
    """'tab', '\\\\t' -> a tab, 'space' -> a space, ';' -> ';'."""
    return {"tab": "\t", "\\t": "\t", "space": " "}.get(text, text)


def picture_size(text: str) -> int | tuple[int, int]:
    """'256' -> 256, '240x320' -> (240, 320), height first. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text, re.IGNORECASE | re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"not a picture's size: {text!r}; expected N or HEIGHTxWIDTH, such as 240x320")
    return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))


def run(options: argparse.Namespace) -> int:
    import recordio

    given = {name: value for name, value in vars(options).items() if name not in ("command", "json")}
    announced: set[str] = set()
    if given.get("engine") == "ray":
        from recordio.writer.convert.engines.ray import connect

        connect()

    def announce(plan: ConvertPlan) -> None:
        for line in _announcement(plan, announced):
            say(line)

    with Progress("convert", "samples", quiet=options.json) as progress:
        result = recordio.convert(**given, progress=progress, announce=None if options.json else announce)
    reports: dict[Any, Any] = result if isinstance(result, dict) else {None: result}
    if getattr(options, "dry_run", False):
        _say_plans(reports, options.json)
        return 0
    if options.json:
        say(json_line({"datasets": [_json(split, report) for split, report in reports.items()]}))
        return 0
    for report in reports.values():
        for line in _lines(report, announced):
            say(line)
    made = sum(report.made for report in reports.values())
    if made:
        speed = f", {rate_text(made / progress.seconds, 'samples')}" if progress.seconds > 0 else ""
        say(f"{count_text(made, 'sample')} in {seconds_text(progress.seconds)}{speed}")
    return 0


def _say_plans(plans: Mapping[str | None, ConvertPlan], as_json: bool) -> None:
    """What would be made."""
    if as_json:
        say(json_line({"dry_run": True, "datasets": [_plan_json(split, plan) for split, plan in plans.items()]}))
        return
    announced: set[str] = set()
    for plan in plans.values():
        for line in (*_announcement(plan, announced), *_intention(plan)):
            say(line)


def _plan_json(split: str | None, plan: ConvertPlan) -> dict[str, Any]:
    names = ("source", "destination", "kind", "samples", "shards", "nbytes", "classes", "notes")
    schema = plan.schema.to_json() if plan.schema else None
    return {"split": split, **{name: getattr(plan, name) for name in names}, "schema": schema}


def _intention(plan: ConvertPlan) -> Iterator[str]:
    size = f", about {bytes_text(plan.nbytes)} before compression and resizing" if plan.nbytes is not None else ""
    shards = count_text(plan.shards, "shard") if plan.shards is not None else "shards"
    yield f"  would become {clean(plan.destination)}: {shards}{size}; nothing was written"
    kinds: Mapping[str, Field] = plan.schema or {}
    rows = [(clean(name), f"{kind}, optional" if kind.optional else str(kind)) for name, kind in kinds.items()]
    yield from (f"    {line}" for line in table(("field", "type"), rows))


def _json(split: str | None, report: ConvertReport) -> dict[str, Any]:
    facts = {field.name: getattr(report, field.name) for field in fields(report)}
    facts["skipped"] = [{"name": name, "reason": reason} for name, reason in report.skipped]
    return {"split": split, **facts}


def _announcement(plan: ConvertPlan, announced: set[str]) -> Iterator[str]:
    """What a source was taken for; a note that was printed before is not repeated."""
    yield f"{clean(plan.source)}: {plan.kind}, {count_text(plan.samples or 0, 'sample')}"
    if plan.classes:
        yield f"  classes: {len(plan.classes):,}: {listed(plan.classes)}"
    yield from _new_notes(plan.notes, announced)


def _new_notes(notes: Iterable[str], announced: set[str]) -> Iterator[str]:
    for note in notes:
        if note not in announced:
            announced.add(note)
            yield f"  note: {clean(note)}"


def _lines(report: ConvertReport, announced: set[str]) -> Iterator[str]:
    samples, shards = count_text(report.samples, "sample"), count_text(report.shards, "shard")
    size = f"{samples} in {shards}, {bytes_text(report.nbytes)}"
    before = ", was there already" if report.done_before else ""
    yield f"{clean(report.destination)}: {size}, from {clean(report.source)} ({report.kind}){before}"
    if report.reused:
        yield f"  {count_text(report.reused, 'shard')} finished by an earlier run"
    yield from _new_notes(report.notes, announced)
    yield from (f"  skipped {clean(name)}: {clean(reason)}" for name, reason in report.skipped)
    if report.skipped:
        yield f"  {count_text(len(report.skipped), 'sample')} skipped"
