"""`recordio sign`: vouches with a key for every byte of a dataset."""

from __future__ import annotations

import argparse
import getpass
import sys

from recordio.display.text import clean, count_text, json_line
from recordio.tools.output import say
from recordio.tools.progress import Progress
from recordio.tools.splits import find_splits, naming
from recordio.tools.storage_option import add_storage_option

SUMMARY = "sign a dataset, so that `verify --key` proves that every byte is what it is now"
STOPPED = "stopped: nothing was signed"
EXAMPLES = """\
examples:
  openssl genpkey -algorithm ed25519 -out private.pem       once: keep it secret
  openssl pkey -in private.pem -pubout -out public.pem      give this one to everybody
  recordio sign photos.rio --key private.pem
  recordio verify photos.rio --key public.pem
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DST", help="a dataset, a folder of splits, or the URL of a dataset")
    parser.add_argument("--key", required=True, metavar="FILE", help="a private key of Ed25519, in PEM or of ssh")
    parser.add_argument("--encrypted", action="store_true", help="ask for the key's password")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_storage_option(parser)


def run(options: argparse.Namespace) -> int:
    import recordio

    password = getpass.getpass("password of the key: ", sys.stderr).encode() if options.encrypted else None
    signed = []
    for split in find_splits(options.path, options.storage):
        label = f"sign {clean(split.name)}" if split.name else "sign"
        with naming(split), Progress(label, "bytes", quiet=options.json) as progress:
            found = recordio.sign(split.path, options.key, password=password, progress=progress, storage=split.storage)
        signed.append({"split": split.name, "path": split.path, "signed_at": found.signed_at, "shards": found.shards})
        if not options.json:
            say(f"{clean(split.path)}: signed the manifest and {count_text(len(found.shards), 'shard')}")
    if options.json:
        say(json_line({"signed": signed}))
    return 0
