"""`recordio cache`: what is kept of datasets in object stores on this machine."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from recordio.display.text import bytes_text, clean, count_text, json_line
from recordio.tools.output import say, seconds_text, table
from recordio.tools.progress import Progress, rate_text
from recordio.tools.sizes import nbytes
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.remote.cache_folder import CacheFolder

SUMMARY = "show, check, fill and clear what is kept of datasets in object stores"
STOPPED = "stopped; what is in the cache stays there: run the same command again, and it goes on"
EXAMPLES = """\
examples:
  recordio cache list                              datasets, the last used first
  recordio cache size                              what they take on disk
  recordio cache verify                            compare every checksum; what is damaged will be fetched again
  recordio cache fill s3://bucket/train            bring a dataset here before it is read
  recordio cache fill s3://bucket/train --fraction 0.5
  recordio cache prune --to 100GB                  remove what was not used for longest
  recordio cache clear s3://bucket/train           remove a dataset
  recordio cache clear                             remove all that is not in use
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    summaries = {
        "list": "print the datasets, the last used first",
        "size": "print what all of them take on disk",
        "verify": "compare every checksum; what is damaged will be fetched again",
        "clear": "remove a dataset, or all that are not in use",
        "prune": "remove what was not used for longest",
        "fill": "bring a dataset here before it is read",
    }
    added = {name: actions.add_parser(name, help=text, allow_abbrev=False) for name, text in summaries.items()}
    for one in added.values():
        one.add_argument("--cache", metavar="DIR", default="auto", help="another folder than the usual")
        one.add_argument("--json", action="store_true", help="print one line of JSON")
    added["clear"].add_argument("url", metavar="URL", nargs="?", help="the dataset; without it all are removed")
    added["prune"].add_argument("--to", type=nbytes, required=True, metavar="SIZE", help="what may stay, such as 100GB")
    fill = added["fill"]
    fill.add_argument("url", metavar="URL", help="the dataset")
    fill.add_argument("--fraction", type=float, default=1.0, metavar="F", help="so large a share of it; all by default")
    fill.add_argument("--limit", type=nbytes, metavar="SIZE", help="of the cache; 80 %% of what is free by default")
    add_storage_option(fill)


def run(options: argparse.Namespace) -> int:
    from recordio.remote.cache_folder import CacheFolder
    from recordio.remote.opening import RemoteAccess

    folder = RemoteAccess(cache=options.cache).cache_folder
    assert folder is not None
    return ACTIONS[options.action](CacheFolder(folder), options)


def _list(cache: CacheFolder, options: argparse.Namespace) -> int:
    sizes = cache.sizes()
    found: list[dict[str, Any]] = []
    for one in cache.datasets():
        shards = one.shards or {}
        found.append(
            {
                "url": one.url,
                "manifest": one.manifest,
                "last_use": one.last_use,
                "in_use": one.in_use,
                "cached_nbytes": sum(sizes.get(shard, 0) for shard in shards),
                "nbytes": sum(shards.values()),
            }
        )
    if options.json:
        say(json_line({"folder": str(cache.folder), "datasets": found}))
        return 0
    if not found:
        say(f"no datasets in {clean(str(cache.folder))}")
        return 0
    rows = [
        (clean(one["url"]), bytes_text(one["cached_nbytes"]), bytes_text(one["nbytes"]), _when(one)) for one in found
    ]
    for line in table(("dataset", "here", "of", "last used"), rows, right=(1, 2)):
        say(line)
    return 0


def _when(one: dict[str, Any]) -> str:
    return "in use" if one["in_use"] else time.strftime("%Y-%m-%d %H:%M", time.localtime(one["last_use"]))


def _size(cache: CacheFolder, options: argparse.Namespace) -> int:
    size = cache.nbytes()
    text = f"{bytes_text(size)} in {clean(str(cache.folder))}"
    _print(options, text, folder=str(cache.folder), nbytes=size)
    return 0


def _verify(cache: CacheFolder, options: argparse.Namespace) -> int:
    with Progress("verify", "bytes", quiet=options.json) as progress:
        found = cache.verify(progress)
    counts = f"{count_text(found.shards, 'shard')}, {count_text(found.pages, 'page')}"
    if found.cleared:
        text = f"DAMAGED  {counts}: {found.cleared:,} of them were damaged, and will be fetched again"
    else:
        text = f"OK  {counts} in {seconds_text(progress.seconds)}"
    _print(options, text, ok=not found.cleared, shards=found.shards, pages=found.pages, cleared=found.cleared)
    return 1 if found.cleared else 0


def _clear(cache: CacheFolder, options: argparse.Namespace) -> int:
    from recordio.remote.urls import checked_url, shown

    freed = cache.clear(None if options.url is None else shown(checked_url(options.url)))
    _print_freed(cache, options, freed)
    return 0


def _prune(cache: CacheFolder, options: argparse.Namespace) -> int:
    _print_freed(cache, options, cache.prune(options.to))
    return 0


def _print_freed(cache: CacheFolder, options: argparse.Namespace, freed: int) -> None:
    left = cache.nbytes()
    used = " (what is in use stays)" if any(one.in_use for one in cache.datasets()) else ""
    text = f"freed {bytes_text(freed)}; {bytes_text(left)} left in {clean(str(cache.folder))}{used}"
    _print(options, text, freed_nbytes=freed, nbytes=left)


def _fill(cache: CacheFolder, options: argparse.Namespace) -> int:
    import recordio
    from recordio.remote.urls import is_url

    if not is_url(options.url):
        raise recordio.SchemaError(f"{options.url!r} is on this machine: only datasets at URLs are cached")
    dataset = recordio.ShardDataset(options.url, storage=options.storage, cache=cache.folder, cache_bytes=options.limit)
    with Progress("fill", "bytes", quiet=options.json) as progress:
        before = dataset.cached
        dataset.predownload(options.fraction, progress)
    share, size = dataset.cached, dataset.store.nbytes
    rate = rate_text(max(0.0, share - before) * size / max(progress.seconds, 1e-9), "bytes")
    text = f"{share:.1%} of {bytes_text(size)} are here, in {seconds_text(progress.seconds)}, {rate}"
    _print(options, text, cached=share, nbytes=size)
    return 0


def _print(options: argparse.Namespace, text: str, **facts: Any) -> None:
    say(json_line(facts) if options.json else text)


ACTIONS: dict[str, Callable[[CacheFolder, argparse.Namespace], int]] = {
    "list": _list,
    "size": _size,
    "verify": _verify,
    "clear": _clear,
    "prune": _prune,
    "fill": _fill,
}
