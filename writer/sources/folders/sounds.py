"""The fields that sounds have beside their bytes, from the header of each file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recordio.format.fields import Field
from recordio.format.numeric import Scalar
from recordio.writer.sources.folders.sound_header import sound_header

SOUND_FIELDS: dict[str, Field] = {
    "rate": Scalar("int32", optional=True),
    "channels": Scalar("int32", optional=True),
    "frames": Scalar("int64", optional=True),
}


def sound_fields(taken: Iterable[str]) -> dict[str, Field]:
    """The fields of sounds but those whose names are taken: what a table says of a sound stands."""
    names = set(taken)
    return {name: field for name, field in SOUND_FIELDS.items() if name not in names}


def sound_values(data: bytes | None, fields: Iterable[str]) -> dict[str, Any]:
    """The values of these fields, without those that the file does not say."""
    if data is None:
        return {}
    said = sound_header(data)._asdict()
    return {name: said[name] for name in fields if said[name] is not None}
