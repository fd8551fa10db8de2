"""What Hugging Face's datasets says about the columns of a table: its `features`, JSON in the file or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recordio.format import strict_json

_LISTS = ("Sequence", "List", "LargeList")


@dataclass(frozen=True, slots=True)
class Feature:
    """What is known of a column.

    Attributes:
        type: such as "Image", "Audio", "ClassLabel", "Array2D", "Value".
        names: the names of the classes, also of labels in a list.
        shape: of an array; a dimension of None is free.
    """

    type: str
    names: tuple[str, ...] = ()
    shape: tuple[int | None, ...] = ()


def features_in(metadata: Mapping[bytes, bytes] | None) -> dict[str, Feature]:
    """The features by column in the metadata of an Arrow schema, none without. Raises ValueError."""
    text = (metadata or {}).get(b"huggingface")
    info = strict_json.parse(text.decode("utf-8")).get("info") if text else None
    return features_of(info)


def features_of(info: Any) -> dict[str, Feature]:
    """The features by column in `info`, what dataset_info.json holds."""
    found = info.get("features") if isinstance(info, dict) else None
    return {name: _feature(one) for name, one in found.items()} if isinstance(found, dict) else {}


def _feature(one: Any) -> Feature:
    if not isinstance(one, dict):
        inner = one[0] if isinstance(one, list) and len(one) == 1 else None
        return Feature("List", names=_names(inner))
    kind = one.get("_type")
    if not isinstance(kind, str):
        return Feature("")
    if kind in _LISTS:
        return Feature(kind, names=_names(one.get("feature")))
    return Feature(kind, names=_names(one), shape=_shape(one.get("shape")))


def _names(one: Any) -> tuple[str, ...]:
    if not isinstance(one, dict) or one.get("_type") != "ClassLabel" or not isinstance(one.get("names"), list):
        return ()
    return tuple(map(str, one["names"]))


def _shape(found: Any) -> tuple[int | None, ...]:
    if not isinstance(found, list) or not all(size is None or type(size) is int for size in found):
        return ()
    return tuple(found)
