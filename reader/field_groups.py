"""Which function each field gets when one transform is given to several: images and masks that belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recordio.arguments import choice
from recordio.errors import SchemaError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.numeric import Array
from recordio.format.schema import Schema
from recordio.images.transform import Transform

Function = Callable[..., Any]
_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


def function_by_field(schema: Schema, fields: Sequence[str] | Mapping[str, str], function: Any) -> dict[str, Function]:
    """The function of each field; see ShardDataset.transform. Raises SchemaError."""
    names = [fields] if isinstance(fields, str) else list(fields)
    schema.select(names)
    roles = dict(fields) if isinstance(fields, Mapping) else _roles(schema, names)
    for name, role in roles.items():
        choice(f"role of {name!r}", role, ("image", "mask"))
    if "mask" in roles.values() and not isinstance(function, Transform):
        raise SchemaError(
            "a function cannot be given to an image and its mask together, for it might blend the mask's values: "
            "give a Compose of built-in steps, in which your functions are left out for the mask"
        )
    return {name: function if role == "image" else _for_mask(function) for name, role in roles.items()}


def _for_mask(function: Transform) -> Function:
    return function.for_mask() or _unchanged


def _unchanged(mask: Any) -> Any:
    return mask


def _roles(schema: Schema, names: list[str]) -> dict[str, str]:
    """Fields of one channel beside one of colour are masks."""
    channels = {name: _channels(name, schema[name]) for name in names}
    if len(names) > 1 and set(channels.values()) == {1}:
        said = ", ".join(f'"{name}": "{role}"' for name, role in zip(names, ("image", "mask"), strict=False))
        raise SchemaError(
            f"{', '.join(names)} all have one channel: say which are masks, as transform({{{said}}}, ...) does"
        )
    return {name: "mask" if count == 1 and len(names) > 1 else "image" for name, count in channels.items()}


def _channels(name: str, field: Field) -> int:
    if isinstance(field, Image) and field.encoded:
        return _CHANNELS[field.mode]
    if isinstance(field, Image | Array) and len(field.shape) in (2, 3):
        return (*field.shape, 1)[2] or 1
    raise SchemaError(f"{field} is no picture").at(field=name)
