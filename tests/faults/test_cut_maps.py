"""Files that are cut or written over while they are read.

A mapped one that is cut ends the process that reads it; that of a worker is reported.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from recordio import CorruptError, DataLoader, RecordIOError, ShardDataset, WorkerError
from tests.faults.crashing import write
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


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_a_file_that_is_written_over_while_it_is_read_gives_no_other_data(tmp_path: Path, io: Any) -> None:
    """Nothing of ours does that: writers publish by renaming. With verify="first" a page is checked once only."""
    write(tmp_path, "create")
    ds = ShardDataset(tmp_path, io=io, verify="always", page_cache_bytes=0)
    before = [ds[i] for i in range(4)]
    with (tmp_path / "shard-00000.rio").open("r+b") as file:
        file.seek(int(ds.store.shard(0).index.page_offsets[0, 1]))
        file.write(b"other")
    with pytest.raises(CorruptError, match=r"checksum.*shard-00000\.rio, block 0, field 'text'"):
        ds[0]
    assert ds[3] == before[3]
