"""Which fields get a function that is given to several, images and masks that belong together, or to none by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from recordio.arguments import choice
from recordio.errors import SchemaError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.numeric import Array
from recordio.format.schema import Schema
from recordio.images.decode import decode_pil, pil_image
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


def assigned_steps(schema: Schema, function: Any) -> tuple[str, list[Function]]:
    """The only picture field, and its steps after `ds.transform = function`: none for None.

    A function that is none of `recordio.transforms` gets a PIL image, as libraries that assign it expect.
    Raises SchemaError.
    """
    names = [name for name, field in schema.items() if isinstance(field, Image)]
    if len(names) != 1:
        many = f"several picture fields, {', '.join(names)}" if names else "no picture field"
        raise SchemaError(f"the dataset has {many}: name the field instead of assigning, ds = ds.transform(image=f)")
    if function is None:
        return names[0], []
    if isinstance(function, Transform):
        return names[0], [function]
    return names[0], [partial(_as_pil, schema[names[0]].mode), checked_function(function, names[0])]  # type: ignore[attr-defined]


def _as_pil(mode: str, picture: Any) -> Any:
    """A picture as PIL.Image, whether decoded or not."""
    if isinstance(picture, np.ndarray):
        return pil_image(picture)
    return decode_pil(picture, mode) if isinstance(picture, bytes) else picture


def checked_function(function: Any, field: str | None = None) -> Function:
    """A function of the user. Raises SchemaError."""
    if not callable(function):
        raise SchemaError(f"expected a function, got {type(function).__name__}").at(field=field)
    return function  # type: ignore[no-any-return]


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
