"""Checks a dataset's metadata before any sample is written: every reader must return it unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recordio.errors import CorruptError, SchemaError
from recordio.format import strict_json
from recordio.format.fields import Bytes
from recordio.format.manifest import Manifest, ShardEntry
from recordio.format.schema import Schema
from recordio.format.shard import ShardHeader

_ID = bytes(16)
_SMALLEST = Schema({"a": Bytes()})


def plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as a reader returns it: tuples become lists. Raises SchemaError for anything JSON cannot keep."""
    try:
        given = dict(metadata)
        _require_text_keys(given)
        out = strict_json.loads(json.dumps(given, allow_nan=False, ensure_ascii=False).encode(), "metadata")
    except (TypeError, ValueError, RecursionError, CorruptError) as error:
        raise SchemaError(f"the metadata is not JSON: {error}") from error
    return out  # type: ignore[no-any-return]


def _require_text_keys(metadata: dict[Any, Any]) -> None:
    """json.dumps silently turns 1 into "1" and True into "true", and merges the keys 1 and "1"."""
    rest: list[Any] = [metadata]
    seen: set[int] = set()
    while rest:
        value = rest.pop()
        if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
            continue
        seen.add(id(value))  # json.dumps refuses cycles
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise ValueError(f"the key {key!r:.40} is no string, and would come back as one; use str(key)")
        rest.extend(value.values() if isinstance(value, dict) else value)


def require_fit(schema: Schema | None, metadata: Mapping[str, Any], shards: Sequence[ShardEntry] = ()) -> None:
    """Raises SchemaError when a shard header or a manifest would be larger than a reader accepts.

    None stands for a schema that is not known yet, and counts as the smallest.
    """
    ShardHeader(_ID, 0, schema or _SMALLEST, metadata).encode()
    Manifest(_ID, schema or _SMALLEST, metadata, shards).encode()
