"""`recordio reshard`: writes a dataset anew."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from recordio.errors import SchemaError
from recordio.tools.edits import STOPPED as STOPPED, add_common_options, add_layout_options, run_edit

SUMMARY = "write a dataset anew: other shards, blocks, codec, order, samples or fields"
EXAMPLES = """\
examples:
  recordio reshard raw packed --compression zstd:9 --shard-bytes 1GiB
  recordio reshard raw mixed --shuffle 1
  recordio reshard raw cats --where label=3 --fields image,label
  recordio reshard raw mine --where source=web --where source=books     any of several values
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="the dataset, which stays as it is")
    parser.add_argument("destination", metavar="DST", help="the dataset to make")
    add_common_options(parser)
    add_layout_options(parser)
    add = parser.add_argument
    add("--shuffle", type=int, metavar="SEED", help="mix all samples by this seed")
    add("--fields", type=lambda text: text.split(","), metavar="A,B,...", help="these fields alone, in this order")
    add(
        "--where",
        action="append",
        type=condition,
        metavar="FIELD=VALUE",
        help="samples with this value alone; of a field that is given again, with any of its values",
    )


def condition(text: str) -> tuple[str, str]:
    """'label=3' -> ('label', '3'). Raises ArgumentTypeError."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"not a condition: {text!r}; expected FIELD=VALUE, such as label=3")
    return name, value


def run(options: argparse.Namespace) -> int:
    import recordio

    fields, conditions = (vars(options).pop(name, None) for name in ("fields", "where"))
    if fields or conditions:
        options.source = _view(options.source, fields, conditions or [], getattr(options, "storage", None))
    return run_edit("reshard", options, recordio.reshard, "source", "destination")


def _view(path: str, fields: list[str] | None, conditions: list[tuple[str, str]], storage: Any) -> Any:
    """These samples and fields of a dataset. Raises SchemaError."""
    import recordio
    from recordio.edit.sources import open_source

    whole = open_source(path, storage)
    equal: dict[str, list[Any]] = {}
    for name, text in conditions:
        equal.setdefault(name, []).append(_value(whole.schema.select([name])[name], name, text))
    view = whole if fields is None else recordio.ShardDataset(path, fields=fields, storage=storage, cache=None)
    for name, values in equal.items():
        view = view.filter(partial(_matches, name, values), fields=[name])
    return view


def _matches(name: str, values: list[Any], columns: Mapping[str, Any]) -> Any:
    from recordio.reader.filtering import equals

    return equals(columns[name], values, name)


def _value(kind: Any, name: str, text: str) -> Any:
    """The value that a text means in a field of this type. Raises SchemaError."""
    from recordio.format.fields import Text
    from recordio.format.numeric import Scalar

    if isinstance(kind, Text):
        return text
    if isinstance(kind, Scalar):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, (bool, int, float)):
            return value
    raise SchemaError(f"--where takes numbers, true, false and text: {text!r} is no value of {kind}").at(field=name)
