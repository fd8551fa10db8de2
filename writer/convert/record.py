"""What a dataset keeps of its conversion: the inputs that were left out and why, and options that a reader must know.

It is the key "conversion" of the manifest's metadata, there only if there is something to say: a plain conversion of
good inputs has none. Shards do not hold it, so they are the same whatever was skipped in others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recordio.writer.convert.plan import ConvertOptions
from recordio.writer.convert.units import Skip

KEY = "conversion"
_MOST_LISTED = 1000
_MOST_TEXT = 300  # characters of a name, and of a reason


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
    input that is in no sample; `check`: False; `resize`; `quality`; `names`, the fields with the names of files, which
    readers leave out unless they are asked for; `dropped`, the inputs of which a function made no sample; `samples`,
    how many it made, if that is not one of each. Keys without meaning are left out.
    """
    said = {
        "check": False if not options.check else None,
        "resize": list(options.resize) if isinstance(options.resize, tuple) else options.resize,
        "quality": options.quality,
        "names": list(names),
        "notes": [note[:_MOST_TEXT] for note in notes],
        "samples": samples,
        "dropped": dropped,
        "skipped": len(skipped),
        "skipped_inputs": [[name[:_MOST_TEXT], reason[:_MOST_TEXT]] for name, reason in skipped[:_MOST_LISTED]],
    }
    kept = {name: value for name, value in said.items() if value not in (None, 0, []) or value is False}
    return {KEY: kept} if kept else {}


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
