"""What batches by length, padding and packed rows cannot do is refused, by the name of the field, with the way out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DataLoader, SchemaError, ShardDataset


def documents(folder: Path, samples: Sequence[dict[str, Any]], schema: Any = None, **options: Any) -> ShardDataset:
    with recordio.DatasetWriter(folder, schema, **options) as writer:
        for sample in samples:
            writer.write(sample)
    return ShardDataset(folder)


def of_lengths(lengths: Sequence[int], **more: Any) -> list[dict[str, Any]]:
    return [{"ids": np.arange(n)} | {name: make(n) for name, make in more.items()} for n in lengths]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ids_length", {"pad_value": 0}),
        ("position_ids", {"sequence_length": 64}),
        ("cu_seqlens", {"sequence_length": 9}),
    ],
)
def test_no_field_is_lost_to_an_array_that_is_added(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    stored = documents(tmp_path / "stored", of_lengths(range(1, 9), **{name: lambda n: 777}))
    with pytest.raises(SchemaError, match=f"batches get {name} of their own.*fields="):
        DataLoader(stored, bucket_by="ids", **options)
    ids = ShardDataset(tmp_path / "stored", fields=["ids"])
    assert len(next(iter(DataLoader(ids, **options))))

    def added(sample: dict[str, Any]) -> dict[str, Any]:
        return sample | {name: 777}

    with pytest.raises(SchemaError, match=f"batches get {name} of their own.*in a map"):
        next(iter(DataLoader(ids.map(added), **options)))
    removed = stored.map(lambda sample: {"ids": sample["ids"]})
    assert len(next(iter(DataLoader(removed, bucket_by="ids", **options))))
