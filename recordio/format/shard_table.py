"""The shards of a manifest: an entry for each, and all of them as columns.

As objects, the entries of ten thousand shards cost more time and memory than all else about opening a dataset. So a
table keeps columns, and makes an entry when asked for one. It reads in bulk what `ShardEntry.to_json` writes; JSON
written in another way is read entry by entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError
from recordio.format.layout import ALIGNMENT, Counts
from recordio.format.shard import Footer
from recordio.lazy import lazy

_MAX_INT = 1 << 62
# What json.dumps makes of entries. A number of 18 digits is below _MAX_INT. No repetition gives back what it has taken,
# so the time is linear whatever the text.
_COUNT = "(?:0|[1-9][0-9]{0,17}+)"
_SIZE = "[1-9][0-9]{0,17}+"
_RUN = rf"\[{_SIZE}, {_SIZE}\]"
_ENTRY = (
    rf'\{{"number": {_COUNT}, "bytes": {_SIZE}, "samples": {_COUNT}, "content_bytes": {_COUNT}, '
    rf'"digest": "[0-9a-f]{{32}}", "blocks": \[(?:{_RUN}(?:, {_RUN})*+)?+\]\}}'
)
_AS_WRITTEN = re.compile(f"(?:(?:{_ENTRY},\n)*+{_ENTRY})?".encode("ascii"))
_ALL_BUT_NUMBERS = bytes(set(range(256)) - set(b"0123456789 "))
_NUMBERS = 4  # of an entry, before its runs


def shard_name(number: int) -> str:
    """The file name of shard `number`."""
    return f"shard-{number:05d}.rio"


def require_count(value: Any, name: str, least: int = 0) -> int:
    """An integer of a manifest. Raises CorruptError for anything else, and for numbers out of range."""
    if type(value) is not int or not least <= value < _MAX_INT:
        raise CorruptError(f"{name} is {value!r}: expected an integer >= {least}")
    return value


def require_hex(value: Any, name: str) -> bytes:
    """The 16 bytes of an identity of a manifest. Raises CorruptError."""
    if not isinstance(value, str) or len(value) != 32 or value != value.lower():
        raise CorruptError(f"{name} is {value!r}: expected 32 hex digits")
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise CorruptError(f"{name} is {value!r}: expected 32 hex digits") from error


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """The manifest's record of a shard.

    Attributes:
        number: the shard's number, from which its file name follows.
        nbytes: the length of the file.
        samples: the number of samples.
        content_nbytes: the bytes of its pages before coding, or in memory when all are read.
        digest: the digest of the shard, 16 bytes.
        runs: (samples, blocks) pairs: `blocks` consecutive blocks of `samples` samples each.
    """

    number: int
    nbytes: int
    samples: int
    content_nbytes: int
    digest: bytes
    runs: tuple[tuple[int, int], ...]

    @property
    def name(self) -> str:
        return shard_name(self.number)

    @property
    def blocks(self) -> int:
        return sum(blocks for _, blocks in self.runs)

    def block_samples(self) -> Counts:
        """int64 (blocks,): the number of samples in each block."""
        runs = np.array(self.runs, np.int64).reshape(-1, 2)
        return np.repeat(runs[:, 0], runs[:, 1])

    @classmethod
    def of(cls, footer: Footer, content_nbytes: int, block_samples: Iterable[int]) -> Self:
        """The entry of a finished shard."""
        runs = tuple((samples, sum(1 for _ in run)) for samples, run in groupby(block_samples))
        return cls(footer.number, footer.file_nbytes, footer.samples, content_nbytes, footer.digest, runs)

    def footer(self, dataset_id: bytes, fields: int) -> Footer:
        """The footer of the shard, of a dataset with so many fields."""
        return Footer.meant(dataset_id, fields, self.number, self.nbytes, self.samples, self.blocks, self.digest)

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "bytes": self.nbytes,
            "samples": self.samples,
            "content_bytes": self.content_nbytes,
            "digest": self.digest.hex(),
            "blocks": [list(run) for run in self.runs],
        }

    @classmethod
    def from_json(cls, entry: Any) -> Self:
        """Raises CorruptError."""
        if not isinstance(entry, dict) or not isinstance(entry.get("blocks"), list):
            raise CorruptError("a shard's entry is not an object with a list of blocks")
        if not all(isinstance(run, list) and len(run) == 2 for run in entry["blocks"]):
            raise CorruptError("a shard's blocks are not pairs of samples and blocks")
        runs = tuple(
            (require_count(n, "a block's samples", 1), require_count(k, "a run of blocks", 1))
            for n, k in entry["blocks"]
        )
        out = cls(
            number=require_count(entry.get("number"), "a shard's number"),
            nbytes=require_count(entry.get("bytes"), "a shard's length", 1),
            samples=require_count(entry.get("samples"), "a shard's samples"),
            content_nbytes=require_count(entry.get("content_bytes"), "a shard's content"),
            digest=require_hex(entry.get("digest"), "a shard's digest"),
            runs=runs,
        )
        if sum(n * k for n, k in runs) != out.samples or out.blocks * ALIGNMENT > out.nbytes:
            raise CorruptError(f"the blocks of {out.name} do not hold its {out.samples} samples")
        return out


def starts_of(counts: Counts) -> Counts:
    """int64 (n + 1,): cumulative counts, beginning with 0."""
    out = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=out[1:])
    return out


@dataclass(frozen=True, eq=False)
class ShardTable(Sequence[ShardEntry]):
    """The entries of S shards with R runs of blocks, as read-only columns: 56 bytes a shard and 16 a run.

    Attributes:
        numbers: int64 (S,), the shards' numbers.
        nbytes: int64 (S,), the lengths of the files.
        samples: int64 (S,).
        content_nbytes: int64 (S,).
        digests: uint8 (S, 16).
        runs: int64 (R, 2), samples and blocks of each run, shard after shard.
        first_run: int64 (S + 1,), the number of runs before each shard; the last is R.
    """

    numbers: Counts
    nbytes: Counts
    samples: Counts
    content_nbytes: Counts
    digests: npt.NDArray[np.uint8]
    runs: Counts
    first_run: Counts

    def __post_init__(self) -> None:
        for column in fields(self):
            getattr(self, column.name).flags.writeable = False

    @classmethod
    def of(cls, entries: Sequence[ShardEntry]) -> ShardTable:
        """The table of these entries; a table is its own."""
        if isinstance(entries, ShardTable):
            return entries
        return cls._of(
            [(entry.number, entry.nbytes, entry.samples, entry.content_nbytes) for entry in entries],
            b"".join(entry.digest for entry in entries),
            [run for entry in entries for run in entry.runs],
            [len(entry.runs) for entry in entries],
        )

    @classmethod
    def _of(cls, numbers: npt.ArrayLike, digests: bytes, runs: npt.ArrayLike, counts: Sequence[int]) -> Self:
        """From (S, 4) numbers and (R, 2) runs, of which each shard has `counts`."""
        columns = np.array(numbers, np.int64).reshape(-1, _NUMBERS).T.copy()
        return cls(
            numbers=columns[0],
            nbytes=columns[1],
            samples=columns[2],
            content_nbytes=columns[3],
            digests=np.frombuffer(digests, np.uint8).reshape(-1, 16),
            runs=np.array(runs, np.int64).reshape(-1, 2),
            first_run=starts_of(np.array(counts, np.int64)),
        )

    @classmethod
    def decode(cls, text: bytes) -> Self | None:
        """The table of entries as `ShardEntry.to_json` writes them, `,` and a newline between them.

        None if anything about them is unusual or wrong: then `ShardEntry.from_json` tells which.
        """
        if not _AS_WRITTEN.fullmatch(text):
            return None
        head, *parts = text.split(b'"digest": "')
        digests = bytes.fromhex(b"".join([part[:32] for part in parts]).decode("ascii"))
        numbers = b"".join([head, *(part[32:] for part in parts)]).translate(None, _ALL_BUT_NUMBERS)
        values = np.fromstring(numbers, np.int64, sep=" ")
        runs = [part.count(b"[") - 1 for part in parts]
        starts = np.arange(len(parts)) * _NUMBERS + starts_of(np.array(runs, np.int64))[:-1] * 2
        places = starts[:, None] + np.arange(_NUMBERS)
        out = cls._of(values[places], digests, np.delete(values, places), runs)
        return out if out._holds_its_samples() else None

    def _holds_its_samples(self) -> bool:
        """Whether the runs of each shard give its samples, and its blocks fit into the file."""
        samples, blocks = self.runs.T
        if (samples.astype(np.float64) * blocks).sum() >= _MAX_INT:  # integers could overflow
            return False
        held = self._by_shard(samples * blocks)
        return bool((held == self.samples).all() and (self.blocks <= self.nbytes // ALIGNMENT).all())

    def _by_shard(self, of_runs: Counts) -> Counts:
        """int64 (S,): the sum over each shard's runs."""
        return np.diff(starts_of(of_runs)[self.first_run])

    @lazy
    def blocks(self) -> Counts:
        """int64 (S,): the number of blocks of each shard."""
        return self._by_shard(self.runs[:, 1])

    def block_samples(self) -> Counts:
        """int64 (blocks,): the number of samples in each block, shard after shard."""
        return np.repeat(self.runs[:, 0], self.runs[:, 1])

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> ShardEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ShardEntry]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        k = range(len(self))[index]
        runs = self.runs[self.first_run[k] : self.first_run[k + 1]].tolist()
        return ShardEntry(
            number=self.numbers[k].item(),
            nbytes=self.nbytes[k].item(),
            samples=self.samples[k].item(),
            content_nbytes=self.content_nbytes[k].item(),
            digest=self.digests[k].tobytes(),
            runs=tuple(map(tuple, runs)),
        )

    def __iter__(self) -> Iterator[ShardEntry]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(ShardEntry.__eq__, self, other))
