"""`recordio plan`: what an epoch over an object store will ask of it, before any of it is run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from recordio.display.text import bytes_text, clean, count_text, json_line
from recordio.tools.numbers import amount, whole_number
from recordio.tools.output import say, seconds_text
from recordio.tools.sizes import nbytes
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.reader.loading.epoch_requests import EpochRequests

SUMMARY = "predict bytes, requests, cost and time of an epoch over an object store"
STOPPED = "stopped"
EXAMPLES = """\
examples:
  recordio plan s3://bucket/photos --batch-size 256 --ranks 8 --bandwidth 1250
  recordio plan photos.rio --pool-bytes 16GB --unit-bytes 8MB      before it is uploaded

The time is the least that the link allows: bytes over bandwidth, or requests over connections, whichever is more.
Prices are those that S3 lists for its Standard class in us-east-1, unless the options give yours.
"""
REQUESTS_PRICE, TRAFFIC_PRICE = 0.40, 0.09
_MOST = 10**9  # of any number here
_number, _amount = whole_number(1, _MOST), amount(_MOST)
_ROUND_TRIPS = 3  # manifest, indexes, pages


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DST", help="a dataset, or the URL of one")
    parser.add_argument("--batch-size", type=_number, default=256, metavar="N", help="of each rank (256)")
    parser.add_argument("--ranks", type=_number, default=1, metavar="N", help="processes that share an epoch (1)")
    parser.add_argument("--in-order", action="store_true", help="without shuffling")
    parser.add_argument("--fields", type=lambda text: text.split(","), metavar="A,B", help="these fields only")
    for option, what in (("window", "mixed at a time"), ("unit", "of neighbouring blocks"), ("pool", "of units")):
        parser.add_argument(f"--{option}-bytes", type=nbytes, metavar="SIZE", help=f"as of DataLoader: {what}")
    parser.add_argument("--lanes", type=_number, metavar="N", help="as of DataLoader (64)")
    parser.add_argument("--bandwidth", type=_amount, metavar="MB/S", help="of each rank's link, in 10^6 bytes a second")
    parser.add_argument("--latency", type=_amount, default=40.0, metavar="MS", help="to the first byte (40)")
    parser.add_argument(
        "--connection-rate", type=_amount, default=90.0, metavar="MB/S", help="that one connection gets (90)"
    )
    parser.add_argument(
        "--request-price", type=_price, default=REQUESTS_PRICE, metavar="USD", help="of 10^6 requests (0.40)"
    )
    parser.add_argument(
        "--traffic-price", type=_price, default=TRAFFIC_PRICE, metavar="USD", help="of 10^9 bytes sent out (0.09)"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_storage_option(parser)


def _price(text: str) -> float:
    return 0.0 if text == "0" else _amount(text)


def run(options: argparse.Namespace) -> int:
    import recordio
    from recordio.reader.loading.epoch_requests import epoch_requests
    from recordio.remote.options import StorageOptions
    from recordio.remote.urls import shown

    dataset = recordio.ShardDataset(options.path, fields=options.fields, storage=options.storage)
    order = {name: getattr(options, name) for name in ("window_bytes", "unit_bytes", "pool_bytes", "lanes")}
    loader = recordio.DataLoader(
        dataset,
        batch_size=options.batch_size,
        shuffle=not options.in_order,
        rank=0,
        world_size=options.ranks,
        **{name: value for name, value in order.items() if value is not None},
    )
    shards = len(dataset.store.manifest.shards)
    facts = {"path": shown(options.path), "samples": len(dataset), "shards": shards, "nbytes": dataset.store.nbytes}
    connections = StorageOptions.of(options.storage).max_connections
    facts |= {"lanes": loader.options.lanes, **_predicted(epoch_requests(loader), options, shards, connections)}
    if options.json:
        say(json_line(facts))
    else:
        for line in _lines(facts):
            say(line)
    return 0


def _predicted(rank: EpochRequests, options: argparse.Namespace, shards: int, connections: int) -> dict[str, Any]:
    """What follows from the requests of one rank."""
    latency, ranks = options.latency / 1e3, options.ranks
    one = rank.nbytes / max(1, rank.requests)
    by_connections = connections * one / (latency + one / (options.connection_rate * 1e6))
    by_bandwidth = (options.bandwidth or float("inf")) * 1e6
    rate = max(1.0, min(by_connections, by_bandwidth))
    opening = 1 + 2 * shards
    return {
        "batch_size": options.batch_size,
        "ranks": ranks,
        "connections": connections,
        "rank": {name: getattr(rank, name) for name in ("samples", "batches", "nbytes", "requests")},
        "is_exact": rank.is_exact,
        "opening_requests": opening,
        "nbytes_per_second": rate,
        "bound_by": "bandwidth" if by_bandwidth < by_connections else "connections",
        "seconds": rank.nbytes / rate,
        "first_batch_seconds": _ROUND_TRIPS * latency + rank.first_nbytes / rate,
        "request_dollars": (rank.requests + opening) * ranks * options.request_price / 1e6,
        "traffic_dollars": rank.nbytes * ranks * options.traffic_price / 1e9,
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    rank, ranks, about = facts["rank"], facts["ranks"], "" if facts["is_exact"] else "about "
    nbytes, requests = rank["nbytes"], rank["requests"]
    shards, batches = count_text(facts["shards"], "shard"), f"{rank['batches']:,} of {facts['batch_size']:,} samples"
    opening = f"{facts['opening_requests']:,} more to open it"
    speed, first = bytes_text(round(facts["nbytes_per_second"])), seconds_text(facts["first_batch_seconds"])
    traffic = f"${facts['traffic_dollars']:,.2f} for traffic that leaves the region"
    yield clean(facts["path"])
    for name, words in {
        "data": f"{count_text(facts['samples'], 'sample')}, {bytes_text(facts['nbytes'])} in {shards}",
        "batches": f"{batches}, of each rank" if ranks > 1 else batches,
        "each rank": f"{about}{bytes_text(nbytes)} in {count_text(requests, 'request')} of "
        f"{bytes_text(nbytes // max(1, requests))}; {opening}",
        "all ranks": f"{about}{bytes_text(nbytes * ranks)} in {count_text(requests * ranks, 'request')}",
        "rate": f"{speed}/s, bound by {facts['bound_by']} ({facts['connections']} requests at a time)",
        "time": f"{seconds_text(facts['seconds'])} an epoch at least, the first batch after {first}",
        "cost": f"${facts['request_dollars']:,.4f} an epoch for requests, {traffic}",
        "cache": f"with {bytes_text(facts['nbytes'])} on disk later epochs fetch nothing",
    }.items():
        yield f"  {name:<11}{words}"
    if ranks > 1 and facts["lanes"] % ranks:
        yield f"  note       {ranks:,} ranks do not divide {facts['lanes']} lanes: each reads blocks of the others, too"
