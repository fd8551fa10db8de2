"""A mapped file that is cut while it is read ends the process that reads it; that of a worker is reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recordio import DataLoader, RecordIOError, ShardDataset, WorkerError
from tests.faults.samples import some


def test_a_worker_whose_mapped_file_is_cut_is_reported(tmp_path: Path) -> None:
    folder = some(tmp_path / "it", 400, shard_samples=400, compression=None, block_bytes=8000, wide=200)
    loader = DataLoader(
        ShardDataset(folder, io="mmap", verify="never"),
        8,
        num_workers=1,
        worker_type="process",
        multiprocessing_context="spawn",
        prefetch_factor=1,
        window_bytes=16_000,
    )
    batches = iter(loader)
    next(batches)
    os.truncate(folder / "shard-00000.rio", 4096)
    with pytest.raises(RecordIOError) as caught:
        for _ in batches:
            pass
    error = caught.value
    assert error.place.file == "shard-00000.rio" or (isinstance(error, WorkerError) and 'io="pread"' in error.fault)
