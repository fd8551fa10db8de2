"""The same samples in the format of each contender: random bytes of the size of small JPEGs, and a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sample_streams import import_with_torchvision

SHARD_BYTES = 64 << 20
FORMATS = {"recordio": "recordio", "wds": "webdataset", "mds": "streaming", "litdata": "litdata"}


def sample(index: int) -> dict[str, Any]:
    rng = np.random.default_rng(index)
    return {"image": rng.bytes(int(rng.integers(30_000, 50_000))), "label": index % 1000}


def write(name: str, folder: Path, count: int) -> None:
    """Writes `count` samples into `folder` in the format of this name, a key of FORMATS."""
    if name == "recordio":
        import recordio

        schema = recordio.Schema({"image": recordio.Bytes(), "label": recordio.Scalar("int64")})
        with recordio.DatasetWriter(folder, schema, shard_bytes=SHARD_BYTES) as writer:
            for index in range(count):
                writer.write(sample(index))
    elif name == "wds":
        import webdataset

        folder.mkdir()
        with webdataset.ShardWriter(f"{folder}/s-%05d.tar", maxsize=SHARD_BYTES, verbose=0) as writer:
            for index in range(count):
                row = sample(index)
                writer.write({"__key__": f"{index:06d}", "bin": row["image"], "cls": row["label"]})
    elif name == "mds":
        with import_with_torchvision("streaming").MDSWriter(
            out=str(folder), columns={"image": "bytes", "label": "int"}
        ) as writer:
            for index in range(count):
                writer.write(sample(index))
    else:
        import litdata

        litdata.optimize(
            fn=sample, inputs=list(range(count)), output_dir=str(folder), chunk_bytes=SHARD_BYTES, num_workers=1
        )
