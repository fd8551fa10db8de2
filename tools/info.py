"""`recordio info`: describes a dataset. Reads the manifest and shard indexes, but no pages."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from recordio.display.text import bytes_text, clean, count_text, cut, json_line, json_text, listed
from recordio.tools.output import say, table
from recordio.tools.splits import Split, find_splits, naming
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.format.schema import Schema
    from recordio.reader.dataset import ShardDataset

SUMMARY = "print what a dataset is made of"
STOPPED = "stopped"
EXAMPLES = """\
examples:
  recordio info digits           fields, sizes, compression, metadata
  recordio info digits --json    one line: {"datasets": [...]}
"""
MEASURED_SHARDS = 256  # larger datasets are sampled evenly: reading every index would take long
METADATA_SHOWN = 20
INPUTS_SHOWN = 20
NAME_COLUMNS = 32
HEAD_COLUMNS = 14


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DST", help="a dataset, a folder of splits, or the URL of a dataset")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_storage_option(parser)


def run(options: argparse.Namespace) -> int:
    import recordio

    datasets = []
    for number, split in enumerate(find_splits(options.path, options.storage)):
        with naming(split):
            dataset = recordio.ShardDataset(split.path, storage=split.storage)
            facts = _facts(split, dataset)
        datasets.append(facts)
        if not options.json:
            if number:
                say()
            for line in (*_lines(facts, dataset.store.manifest.schema), *_statistics(dataset)):
                say(line)
    if options.json:
        say(json_line({"datasets": datasets}))
    return 0


def _facts(split: Split, dataset: ShardDataset) -> dict[str, Any]:
    from recordio.format.layout import VERSION

    manifest = dataset.store.manifest
    measured, sizes = _measure(dataset)
    return {
        "split": split.name,
        "path": split.path,
        "samples": manifest.samples,
        "shards": len(manifest.shards),
        "blocks": sum(manifest.table.blocks.tolist()),
        "nbytes": sum(manifest.table.nbytes.tolist()),
        "content_nbytes": dataset.store.content_nbytes,
        "format_version": VERSION,
        "dataset_id": manifest.dataset_id.hex(),
        "io": {"kind": dataset.store.io.kind, "reason": dataset.store.io.reason},
        "parity": None if manifest.parity is None else manifest.parity.to_json(),
        "measured_shards": measured,
        "schema": [entry | size for entry, size in zip(manifest.schema.to_json(), sizes, strict=True)],
        "metadata": dict(manifest.metadata),
        "statistics": manifest.statistics,
    }


def _measure(dataset: ShardDataset) -> tuple[int, list[dict[str, Any]]]:
    """The number of shards measured, and the size of each field's pages in them. Raises CorruptError."""
    from recordio.format.codec import Codec

    shards, fields = len(dataset.store.manifest.shards), len(dataset.store.manifest.schema)
    stored, content = [0] * fields, [0] * fields
    codecs: list[set[str]] = [set() for _ in range(fields)]
    count = min(shards, MEASURED_SHARDS)
    for number in range(count):
        pages = dataset.store.shard(number * shards // count).index.pages
        for column in range(fields):
            stored[column] += int(pages["stored_nbytes"][:, column].sum())
            content[column] += int(pages["nbytes"][:, column].sum())
            codecs[column].update(Codec(code).label for code in set(pages["codec"][:, column].tolist()))
    names = ("stored_nbytes", "content_nbytes", "codecs")
    columns = zip(stored, content, map(sorted, codecs), strict=True)
    return count, [dict(zip(names, column, strict=True)) for column in columns]


def _lines(facts: dict[str, Any], schema: Schema) -> Iterator[str]:
    yield clean(facts["path"])
    shards, blocks = count_text(facts["shards"], "shard"), count_text(facts["blocks"], "block")
    yield _line("samples", f"{facts['samples']:,} in {shards}, {blocks}")
    yield _line("on disk", f"{bytes_text(facts['nbytes'])} ({facts['nbytes']:,} bytes)")
    if (parity := facts["parity"]) is not None:
        nbytes = bytes_text(sum(file["bytes"] for file in parity["files"]))
        files = count_text(len(parity["files"]), "file")
        yield _line("parity", f"{nbytes} in {files}, one for every {count_text(parity['group'], 'shard')}")
    yield _line("compression", _compression(facts))
    yield _line("reading", f"{facts['io']['kind']}: {facts['io']['reason']}")
    for name, value in list(facts["metadata"].items())[:METADATA_SHOWN]:
        if name == "conversion" and isinstance(value, dict):
            yield from _conversion(value)
        else:
            yield _line(cut(name, NAME_COLUMNS), _metadata_text(name, value))
    if len(facts["metadata"]) > METADATA_SHOWN:
        yield _line("...", f"{len(facts['metadata']) - METADATA_SHOWN} more in the metadata")
    yield _line("format", f"version {facts['format_version']}, dataset id {facts['dataset_id']}")
    yield ""
    rows = [_row(entry, str(kind)) for entry, kind in zip(facts["schema"], schema.values(), strict=True)]
    for line in table(("field", "type", "stored", "decoded", "ratio", "codec"), rows, right=(2, 3, 4)):
        yield f"  {line}"
    if facts["measured_shards"] < facts["shards"]:
        yield f"  (the sizes are those of {facts['measured_shards']:,} of the {facts['shards']:,} shards)"


def _statistics(dataset: ShardDataset) -> Iterator[str]:
    from recordio.display.statistics import statistics_text
    from recordio.statistics.records import Statistics

    yield ""
    written = dataset.store.manifest.statistics
    if written is None:
        yield "  no statistics: the dataset was written without; ds.measure() makes them"
        return
    found = Statistics.from_json(written)
    schema = dataset.store.manifest.schema
    rows = [
        (cut(name, NAME_COLUMNS), clean(statistics_text(schema[name], found[name]))) for name in schema if name in found
    ]
    for line in table(("field", "statistics"), rows):
        yield f"  {line}"


def _conversion(record: dict[str, Any]) -> Iterator[str]:
    """What a conversion left out, and what it did to the inputs. A stranger's metadata may hold anything there."""
    width = max(shutil.get_terminal_size().columns - HEAD_COLUMNS - 2, NAME_COLUMNS)
    if record.get("check") is False:
        yield _line("check", "off: pictures were not decoded when the dataset was made")
    if isinstance(names := record.get("names"), list):
        yield _line("on request", cut(listed(names), width))
    for name, value in record.items():
        if name == "sources" and isinstance(value, list):
            yield from (_line("from", cut(_source(one), width)) for one in value[:INPUTS_SHOWN])
        elif name not in ("check", "names", "skipped", "skipped_inputs", "notes"):
            yield _line(cut(name, NAME_COLUMNS), cut(json_text(value), width))
    notes, inputs = (value if isinstance(value, list) else [] for value in map(record.get, ("notes", "skipped_inputs")))
    yield from (_line("note", clean(str(note))) for note in notes[:INPUTS_SHOWN])
    if record.get("skipped"):
        yield _line("skipped", cut(f"{json_text(record['skipped'])} of the inputs, which could not be read", width))
    for entry in inputs[:INPUTS_SHOWN]:
        yield f"    {clean(': '.join(map(str, entry)) if isinstance(entry, list) else str(entry))}"
    if len(inputs) > INPUTS_SHOWN:
        yield "    ... (--json lists more)"


def _source(record: Any) -> str:
    """A dataset that samples were taken from, by a merge or an append."""
    if not isinstance(record, dict):
        return json_text(record)
    samples = record.get("samples")
    return f"{record.get('name')}: {count_text(samples, 'sample') if isinstance(samples, int) else json_text(samples)}"


def _line(name: str, words: str) -> str:
    head = f"  {name:<{HEAD_COLUMNS}}"
    return head.rstrip() + "  " + words if len(name) >= HEAD_COLUMNS else head + words


def _row(entry: dict[str, Any], kind: str) -> tuple[str, ...]:
    stored, content = entry["stored_nbytes"], entry["content_nbytes"]
    optional = ", optional" if entry.get("optional") else ""
    ratio = f"{content / stored:.2f}" if stored else "-"
    codec = " + ".join(entry["codecs"]) or "-"
    sizes = bytes_text(stored), bytes_text(content)
    return cut(entry["name"], NAME_COLUMNS), clean(kind) + optional, *sizes, ratio, codec


def _compression(facts: dict[str, Any]) -> str:
    used = sorted({codec for entry in facts["schema"] for codec in entry["codecs"]} - {"plain"})
    if not used:
        return "none"
    stored = sum(entry["stored_nbytes"] for entry in facts["schema"])
    content = sum(entry["content_nbytes"] for entry in facts["schema"])
    return f"{', '.join(used)}, {bytes_text(content)} in {bytes_text(stored)}"


def _metadata_text(name: str, value: Any) -> str:
    width = max(shutil.get_terminal_size().columns - HEAD_COLUMNS - 2, NAME_COLUMNS)
    if name == "classes" and isinstance(value, list):
        return cut(f"{len(value):,}: {listed(value)}", width)
    return cut(json_text(value), width)
