"""The footers of many shards at once: which of them are, byte for byte, those that a manifest leads to expect?

Words no errors. A footer that is another one may still be good, and is looked at alone, by `Footer.decode`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recordio.format.checksum import checksum
from recordio.format.layout import CHECKSUM, FOOTER, FOOTER_DTYPE, FOOTER_MAGIC, VERSION, index_dtype, padded
from recordio.format.shard_table import ShardTable


def matching_footers(
    tails: Sequence[bytes], table: ShardTable, dataset_id: bytes, fields: int
) -> npt.NDArray[np.bool_]:
    """bool (S,): whether the last bytes of each of S files are the footer of that shard, with the right checksum."""
    whole = [tail if len(tail) == FOOTER.size else bytes(FOOTER.size) for tail in tails]
    found = np.frombuffer(b"".join(whole), FOOTER_DTYPE)
    expected = expected_footers(table, dataset_id, fields)
    expected["checksum"] = [checksum(tail[CHECKSUM.size :]) for tail in whole]
    same = found.view(np.uint8).reshape(-1, FOOTER.size) == expected.view(np.uint8).reshape(-1, FOOTER.size)
    fits = table.blocks <= table.nbytes // index_dtype(fields).itemsize  # no product has overflowed
    matches: npt.NDArray[np.bool_] = fits & same.all(axis=1)
    return matches


def expected_footers(table: ShardTable, dataset_id: bytes, fields: int) -> npt.NDArray[np.void]:
    """FOOTER_DTYPE (S,): the footers, without their checksums."""
    out = np.zeros(len(table), FOOTER_DTYPE)
    index_nbytes = padded(table.blocks * index_dtype(fields).itemsize)
    for name, value in {
        "dataset_id": np.frombuffer(dataset_id, np.uint8),
        "number": table.numbers,
        "version": VERSION,
        "fields": fields,
        "file_nbytes": table.nbytes,
        "index_offset": table.nbytes - FOOTER.size - index_nbytes,
        "index_nbytes": index_nbytes,
        "samples": table.samples,
        "blocks": table.blocks,
        "digest": table.digests,
        "magic": np.frombuffer(FOOTER_MAGIC, np.uint8),
    }.items():
        out[name] = value
    return out
