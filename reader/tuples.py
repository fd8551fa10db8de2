"""Samples as tuples of fields: the names, and the steps before and after a function of the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recordio.arguments import describe
from recordio.errors import SchemaError


def tuple_names(names: Sequence[Any]) -> tuple[str, ...]:
    """The names of the fields of a tuple. Raises SchemaError."""
    if not names or not all(isinstance(name, str) for name in names):
        given = ", ".join(map(describe, names)) or "nothing"
        raise SchemaError(f'tuples takes the names of fields, as tuples("image", "label") does, not {given}')
    if len(set(names)) < len(names):
        raise SchemaError(f"tuples names a field twice: {', '.join(names)}")
    return tuple(names)


def named_fields(names: tuple[str, ...], sample: Any) -> dict[str, Any]:
    """These keys of a sample that a map has returned. Raises SchemaError."""
    if not isinstance(sample, dict):
        raise SchemaError(f"tuples after a map takes keys of the dicts that it returns; it returned {describe(sample)}")
    if missing := [name for name in names if name not in sample]:
        named, there = ", ".join(map(repr, missing)), ", ".join(map(str, sample)) or "none"
        raise SchemaError(f"no key named {named} in the sample that a map has returned; there are {there}")
    return {name: sample[name] for name in names}


def as_tuple(sample: dict[str, Any]) -> tuple[Any, ...]:
    """The values of a sample, for the map that follows."""
    return tuple(sample.values())
