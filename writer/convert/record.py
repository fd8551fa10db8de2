"""What a dataset keeps of its conversion: the inputs that were left out and why, and options that a reader must know.

It is the key "conversion" of the manifest's metadata, there only if there is something to say: a plain conversion of
good inputs has none. Shards do not hold it, so they are the same whatever was skipped in others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recordio.writer.convert.plan import ConvertOptions
from recordio.writer.convert.units import Skip
from recordio.writer.sources import SourceOptions, TableOptions

KEY = "conversion"
RECORDED_OPTIONS = (
    *("kind", "split", "shuffle", "limit", "upright", "keep_names", "embed", "masks", "mode"),
    *("encoding", "delimiter", "quotes", "header", "columns", "missing", "skip_lines"),
    *("text_field", "sequence_length", "eos"),
)
_MOST_LISTED = 1000
MOST_TEXT = 300  # characters of a name, and of a reason


def conversion_record(
    options: ConvertOptions,
    skipped: Sequence[Skip],
    notes: Sequence[str],
    names: Sequence[str] = (),
    dropped: int = 0,
    samples: int | None = None,
) -> dict[str, Any]:
    """{"conversion": ...}, or nothing.

    It has `skipped`, the number of samples left out; `skipped_inputs`, [name, reason] of the first 1,000; `notes` about
    input that is in no sample; `check`: False; `resize`; `quality`; `options`, see `asked_options`; `names`, the fields
    with the names of files, which readers leave out unless they are asked for; `dropped`, the inputs of which a
    function made no sample; `samples`, how many it made, if that is not one of each. Keys without meaning are left out.
    """
    said: dict[str, Any] = {
        "check": False if not options.check else None,
        "resize": list(options.resize) if isinstance(options.resize, tuple) else options.resize,
        "quality": options.quality,
        "options": dict(options.asked),
        "names": list(names),
        "notes": [note[:MOST_TEXT] for note in notes],
        "samples": samples,
        "dropped": dropped,
        "skipped": len(skipped),
        "skipped_inputs": [[name[:MOST_TEXT], reason[:MOST_TEXT]] for name, reason in skipped[:_MOST_LISTED]],
    }
    kept = {name: value for name, value in said.items() if value not in (None, 0, [], {}) or value is False}
    return {KEY: kept} if kept else {}


def asked_options(kind: str | None, split: str | None, given: SourceOptions, options: ConvertOptions) -> dict[str, Any]:
    """The options of `convert` that say what a sample is, by their names there, without those left at their defaults.

    Functions, schemas and paths of this machine are only named, in "not_recorded": they have to be given again.
    """
    said: dict[str, Any] = {"kind": kind, "split": split}
    for source, names in (
        (options, ("shuffle", "limit", "upright", "keep_names")),
        (given, ("embed", "masks", "mode")),
        (given.table, tuple(TableOptions.__dataclass_fields__)),
        (options.text, ("text_field", "sequence_length", "eos")),
    ):
        defaults = source.__dataclass_fields__
        said |= {name: found for name in names if (found := getattr(source, name)) != defaults[name].default}
    function = options.maker.function if options.maker is not None else None
    left = {"fn": function, "schema": options.schema, "root": given.root, "tokenizer": options.text.tokenizer}
    said["not_recorded"] = [name for name, value in left.items() if value is not None]
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
    return {name: value for name, value in plain.items() if value not in (None, [])}


class Recorded(NamedTuple):
    """What a finished dataset says of its conversion: the skipped inputs that it lists, the number of all, and the keys
    of `conversion_record`.
    """

    skips: tuple[Skip, ...]
    skipped: int
    dropped: int
    samples: int | None


def recorded(metadata: Mapping[str, Any]) -> Recorded:
    record = metadata.get(KEY)
    said = record if isinstance(record, dict) else {}
    skips = tuple((str(name), str(reason)) for name, reason in said.get("skipped_inputs") or ())
    counts = {name: value for name in ("skipped", "dropped", "samples") if isinstance(value := said.get(name), int)}
    return Recorded(skips, counts.get("skipped", 0), counts.get("dropped", 0), counts.get("samples"))
