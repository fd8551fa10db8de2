"""What the sections share: the results, and rounds of requests that take turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from measuring import Row, in_process, median, say, succeeded

Tables = dict[str, list[Row]]  # of one section, by title; the rows of a table have the same keys
Results = dict[str, Tables]  # of all sections
Key = TypeVar("Key")


def write(script: str, request: Row) -> None:
    """Has the data of a section written by a process of its own. Raises RuntimeError if that fails."""
    succeeded(in_process(script, request | {"run": "write"}, 3600))


def medians(script: str, requests: Mapping[Key, Row], rounds: int, timeout: float) -> dict[Key, Row]:
    """The median figures of each request, a fresh process each, taking turns; {"note": reason} of one that failed.

    What failed is not tried again.
    """
    found: dict[Key, list[Row]] = {key: [] for key in requests}
    failed: dict[Key, Row] = {}
    for number in range(rounds):
        for key, request in requests.items():
            if key in failed:
                continue
            say(f"  round {number + 1}: {', '.join(map(str, key)) if isinstance(key, tuple) else key}")
            row = in_process(script, request, timeout)
            if "failed" in row:
                failed[key] = {"note": row["failed"]}
            else:
                found[key].append(row)
    merged = {
        key: {name: median(row.get(name) for row in rows) for name in (rows or [{}])[0]} for key, rows in found.items()
    }
    return {key: {**merged[key], "note": "", **failed.get(key, {})} for key in requests}


def scaled(found: Row, factor: float, names: Mapping[str, str]) -> Row:
    """Figures by their labels in a table, multiplied; None where there is none."""
    values = {label: found.get(name) for label, name in names.items()}
    return {label: None if value is None else value * factor for label, value in values.items()}


def row_of(results: Results, section: str, title: str, where: Row) -> Row | None:
    """The first row of a table that has these values, if it was measured."""
    rows = results.get(section, {}).get(title, [])
    return next((row for row in rows if all(row.get(key) == value for key, value in where.items())), None)
