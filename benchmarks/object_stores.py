"""Training on datasets in an object store: beside peers, in bad weather, with caches that many share.

    python benchmarks/object_stores.py [--sections peers weather caches] [--rounds 3] [--samples 24000] [--json]

The store is nginx on this machine, which waits 40 ms before the first byte of an answer and sends 90 MB/s a connection:
`apt-get install nginx libnginx-mod-http-lua`. It serves the same samples, 30 to 50 KB of random bytes and a label, in
the format of each contender; what is not installed is left out. Two workers, batches of 256, shuffled, an empty cache
before each run. Every figure is from a process of its own, medians over rounds in which contenders take turns. CPU
seconds are those of all processes of a contender, without the server's.

peers     two epochs over TLS beside WebDataset, MosaicML Streaming and LitData, s3torchconnector over plain HTTP
weather   one request in a hundred a second late, a consumer at half the link; a server that throttles
caches    four processes on one cache; a cache of half the data
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from buckets import caches, loops, peers, server, weather
from buckets.data import FORMATS, write
from measuring import answer, in_process, machine, say, scratch, show, succeeded

SECTIONS: dict[str, Any] = {"peers": peers, "weather": weather, "caches": caches}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=24_000)
    parser.add_argument("--patience", type=float, default=120, help="seconds that a run may take")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="of the section peers; all if not given")
    parser.add_argument("--out", type=Path, help="the folder of data and caches; what is there already is served")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def store(out: Path, samples: int) -> None:
    """Writes the data in all formats that can be written here, unless they are there."""
    for name, module in FORMATS.items():
        folder = out / "root" / "b" / name
        if find_spec(module) and not folder.exists():
            say(f"{name}: {samples:,} samples")
            folder.parent.mkdir(parents=True, exist_ok=True)
            succeeded(in_process(__file__, {"write": name, "folder": str(folder), "samples": samples}, 600))


def main() -> None:
    options = arguments()
    if options.one and "write" in options.one:
        write(options.one["write"], Path(options.one["folder"]), options.one["samples"])
        answer({})
    if options.one:
        answer(loops.measure(options.one))
    if missing := server.missing():
        raise SystemExit(missing)
    if not options.json:
        print(f"{machine(('obstore', 'webdataset', 'mosaicml-streaming', 'litdata', 's3torchconnector'))}")
    with scratch(options.out) as out:
        store(out, options.samples)
        with server.running(out) as running:
            for name in options.sections:
                for title, rows in SECTIONS[name].run(__file__, running, out, options).items():
                    show(rows, options.json, title or name)


if __name__ == "__main__":
    main()
