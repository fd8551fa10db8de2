"""Writes tests/data/formats/lmdb with the package lmdb: environments, packed with gzip, and how long their values are.

    python tests/data/formats/make_lmdb.py

A value is its key, over and over, cut to the length that expected.json has.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import lmdb

HERE = Path(__file__).parent / "lmdb"
LENGTHS = {f"{number:05d}-é": (number * 37) % 211 for number in range(300)} | {"large": 9000, "page": 4096 - 16}


def environment(name: str, lengths: dict[str, int], databases: tuple[str, ...] = ()) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with lmdb.open(folder, map_size=1 << 22, max_dbs=len(databases)) as env:
            for database in [env.open_db(one.encode()) for one in databases] or [None]:
                with env.begin(write=True, db=database) as transaction:
                    transaction.put(b"gone", b"x" * 5000)
                    for key, length in lengths.items():
                        transaction.put(key.encode(), (key.encode() * length)[:length])
                with env.begin(write=True, db=database) as transaction:
                    transaction.delete(b"gone")
        data = Path(folder, "data.mdb").read_bytes()
    (HERE / f"{name}.mdb.gz").write_bytes(gzip.compress(data, mtime=0))


def main() -> None:
    HERE.mkdir(exist_ok=True)
    environment("plain", LENGTHS)
    environment("named", {"a": 3, "b": 5000}, ("one",))
    environment("several", {"a": 3}, ("one", "two"))
    (HERE / "expected.json").write_text(json.dumps(LENGTHS) + "\n")


if __name__ == "__main__":
    main()
