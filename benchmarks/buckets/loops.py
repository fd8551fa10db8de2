"""Epochs of each contender over a bucket: batches of 256 in shuffled order, as its own documents recommend."""

from __future__ import annotations

import contextlib
import os
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measuring import Row
from sample_streams import import_with_torchvision
from scaling.usage import family

BATCH = 256
Batches = Iterable[tuple[int, int]]  # samples and bytes of each
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Loop:
    """What is made before the clock runs.

    Attributes:
        batches: those of the epoch with this number.
        stats: what the loader has counted.
    """

    batches: Callable[[int], Batches]
    stats: Callable[[], Row] = dict


def tree_cpu() -> float:
    """CPU seconds of this process and of all below it so far, those that have ended included."""
    total = 0
    for pid in family():
        with contextlib.suppress(OSError):  # it has ended
            total += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return total / TICKS


def epochs(batches: Callable[[int], Batches], count: int, rate: float | None = None) -> list[Row]:
    """Runs epochs. `rate`: what the consumer takes, in bytes a second; none if it takes all it gets."""
    rows = []
    for epoch in range(count):
        cpu, began, first, samples, nbytes, waits = tree_cpu(), time.perf_counter(), None, 0, 0, []
        asked = began
        for some, size in batches(epoch):
            waits.append(time.perf_counter() - asked)
            first = waits[0] if first is None else first
            samples, nbytes = samples + some, nbytes + size
            if rate:
                time.sleep(max(0.0, began + first + nbytes / rate - time.perf_counter()))
            asked = time.perf_counter()
        rows.append(
            {
                "seconds": time.perf_counter() - began,
                "first": first,
                "longest": max(waits[1:], default=0.0),
                "stalls": sum(wait > 0.1 for wait in waits[1:]),
                "cpu": tree_cpu() - cpu,
                "samples": samples,
                "nbytes": nbytes,
            }
        )
    return rows


def as_it_is(batch: Any) -> Any:
    return batch


def counted(batches: Iterable[Any], name: str = "image") -> Iterator[tuple[int, int]]:
    """Of batches that are lists of samples."""
    for batch in batches:
        yield len(batch), sum(len(row[name]) for row in batch)


def of_recordio(request: Row) -> Loop:
    import recordio

    options = {"cache": request["cache"], "cache_bytes": request.get("cache_bytes")} if request.get("cache") else {}
    if request["url"].startswith("http"):
        options = {"cache": None, **options, "storage": {"root_certificate": request["authority"]}}
    loading = {"batch_size": BATCH, "shuffle": True, "num_workers": request["workers"], **request.get("loading", {})}
    loader: Any = recordio.DataLoader(recordio.ShardDataset(request["url"], **options), **loading)

    def batches(epoch: int) -> Iterator[tuple[int, int]]:
        loader.set_epoch(epoch)
        for batch in loader:
            yield len(batch["label"]), sum(map(len, batch["image"]))

    return Loop(batches, lambda: asdict(loader.stats.remote) if loader.stats.remote else {})


def of_webdataset(request: Row) -> Loop:
    import webdataset

    if request["cache"]:
        Path(request["cache"]).mkdir()
    urls = [f"pipe:curl -s -L {request['url']}/s-{k:05d}.tar" for k in range(request["shards"])]
    dataset = webdataset.WebDataset(urls, shardshuffle=100, cache_dir=request["cache"]).shuffle(1000)
    loader = webdataset.WebLoader(dataset, batch_size=BATCH, num_workers=request["workers"], collate_fn=as_it_is)
    return Loop(lambda epoch: counted(loader, "bin"))


def of_mds(request: Row) -> Loop:
    from torch.utils.data import DataLoader

    dataset = import_with_torchvision("streaming").StreamingDataset(
        remote="s3://b/mds", local=request["cache"], shuffle=True, batch_size=BATCH, predownload=None
    )
    loader: Any = DataLoader(dataset, BATCH, num_workers=request["workers"], collate_fn=as_it_is)
    return Loop(lambda epoch: counted(loader))


def of_litdata(request: Row) -> Loop:
    import litdata

    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    dataset = litdata.StreamingDataset(
        "s3://b/litdata/",
        cache_dir=request["cache"],
        shuffle=True,
        storage_options={"endpoint_url": os.environ["S3_ENDPOINT_URL"], **keys},
        max_cache_size="10GB",
    )
    loader: Any = litdata.StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=request["workers"], collate_fn=as_it_is, shuffle=True
    )
    return Loop(lambda epoch: counted(loader))


def images_of(stream: Any) -> list[bytes]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        members = ((member, archive.extractfile(member)) for member in archive)
        return [file.read() for member, file in members if file and member.name.endswith(".bin")]


def of_s3torchconnector(request: Row) -> Loop:
    from s3torchconnector import S3ClientConfig, S3IterableDataset
    from torch.utils.data import DataLoader

    dataset = S3IterableDataset.from_objects(
        [f"s3://b/wds/s-{k:05d}.tar" for k in range(request["shards"])],
        region="us-east-1",
        endpoint=os.environ["S3_ENDPOINT_URL"],
        transform=images_of,
        enable_sharding=True,
        s3client_config=S3ClientConfig(force_path_style=True),
    )
    loader: Any = DataLoader(dataset, batch_size=None, num_workers=request["workers"])
    return Loop(lambda epoch: ((len(shard), sum(map(len, shard))) for shard in loader))


LOOPS: dict[str, Callable[[Row], Loop]] = {
    "recordio": of_recordio,
    "webdataset": of_webdataset,
    "mds": of_mds,
    "litdata": of_litdata,
    "s3torchconnector": of_s3torchconnector,
}


def measure(request: Row) -> Row:
    """The epochs of `request`, and what the loader has counted."""
    began = time.perf_counter()
    loop = LOOPS[request["loop"]](request)
    made = time.perf_counter() - began
    return {"made": made, "epochs": epochs(loop.batches, request["epochs"], request.get("rate")), **loop.stats()}
