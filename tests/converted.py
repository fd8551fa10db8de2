"""What tests of sources ask of every source: equal values, and bytes that do not depend on workers or on a stop."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import ShardDataset, convert
from recordio.errors import RecordIOError
from recordio.writer.sources import Source, find_sources, open_source
from tests.data.formats.plain_json import from_json

FORMATS = Path(__file__).parent / "data" / "formats"


def opened(path: Path, split: str = "", kind: str | None = None) -> Source:
    """The source at a path, or one of its splits."""
    spec = find_sources(path, kind)[split]
    return open_source(spec.path, spec.kind, spec.options)


def expected(name: str) -> Any:
    """What the library of a format read from the fixtures, as their maker wrote it down."""
    return from_json(json.loads((FORMATS / name / "expected.json").read_text()))


def faults(source: Source) -> dict[int, str]:
    """The error of each sample that cannot be read."""
    read = enumerate(source.read(range(len(source))))
    return {index: str(found) for index, (_, found) in read if isinstance(found, RecordIOError)}


def assert_equal(found: Any, wanted: Any) -> None:
    """Equal values, of arrays also shape and dtype."""
    if isinstance(wanted, (np.ndarray, np.generic)):
        assert (np.asarray(found).dtype, np.shape(found)) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, Mapping):
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            assert_equal(found[name], value)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_equal(one, other)
    else:
        assert type(found) is type(wanted)
        assert found == wanted or found != found


def stored(path: Path, out: Path, **options: Any) -> list[dict[str, Any]]:
    """The samples of the dataset that a source is converted to, without fields that are missing."""
    convert(path, out, **({"workers": 1} | options))
    return [
        {name: value for name, value in sample.items() if value is not None}
        for sample in ShardDataset(out, decode=None)
    ]


class _Stop(Exception):
    """Interrupts a conversion."""


def assert_same_bytes(path: Path, folder: Path, workers: Iterable[int] = (2,), **options: Any) -> None:
    """Converts with one worker and with others, and once with a stop in between: all datasets have the same bytes."""
    given = {"shard_bytes": 200} | options
    for count in (1, *workers):
        convert(path, folder / str(count), workers=count, **given)
    whole = _contents(folder / "1")
    assert sum(name.endswith(".rio") for name in whole) > 1
    assert all(_contents(folder / str(count)) == whole for count in workers)

    def stop(done: int, total: int) -> None:
        if done > 1:
            raise _Stop

    with pytest.raises(_Stop):
        convert(path, folder / "stopped", workers=1, progress=stop, **given)
    assert list(folder.glob("stopped/**/.convert/shard-*.rio"))
    convert(path, folder / "stopped", workers=1, **given)
    assert _contents(folder / "stopped") == whole


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
