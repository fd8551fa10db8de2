"""What a repair has saved, and what is lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Level = Literal["full", "quick"]


@dataclass(frozen=True, slots=True)
class Loss:
    """Blocks of a shard that are in no copy, or a whole shard.

    Attributes:
        file: the shard's file.
        fault: why they are lost.
        first_block: their first block within the shard.
        blocks: how many; None if that is not known, as at the end of a shard that was cut.
        first_sample: the number of their first sample in the dataset as it was; None if that is not known.
        samples: how many; None if that is not known.
    """

    file: str
    fault: str
    first_block: int = 0
    blocks: int | None = None
    first_sample: int | None = None
    samples: int | None = None

    def __str__(self) -> str:
        if self.blocks is None:
            blocks = f"blocks from {self.first_block:,} on"
        else:
            blocks = _numbers("block", self.first_block, self.blocks)
        return f"{self.file}, {blocks}, {self._samples_text()}: {self.fault}"

    def _samples_text(self) -> str:
        if self.samples is None:
            return "nobody knows how many samples"
        if self.first_sample is None:
            return f"{self.samples:,} sample{'' if self.samples == 1 else 's'}"
        return _numbers("sample", self.first_sample, self.samples)

    def shifted(self, samples: int | None) -> Loss:
        """The same, where `samples` samples stand before its shard; None if nobody knows how many."""
        known = self.first_sample is not None and samples is not None
        return replace(self, first_sample=self.first_sample + samples if known else None)  # type: ignore[operator]


def _numbers(noun: str, first: int, count: int) -> str:
    """'sample 7', 'samples 7 to 9'."""
    return f"{noun} {first}" if count == 1 else f"{noun}s {first} to {first + count - 1}"


def merged(losses: Iterable[Loss]) -> list[Loss]:
    """The losses, with neighbours of the same fault as one."""
    out: list[Loss] = []
    for loss in losses:
        last = out[-1] if out else None
        if last is None or not _follows(last, loss):
            out.append(loss)
            continue
        samples = None if last.samples is None or loss.samples is None else last.samples + loss.samples
        out[-1] = replace(last, blocks=(last.blocks or 0) + (loss.blocks or 0), samples=samples)
    return out


def _follows(last: Loss, loss: Loss) -> bool:
    if last.blocks is None or loss.blocks is None or (last.file, last.fault) != (loss.file, loss.fault):
        return False
    return last.first_block + last.blocks == loss.first_block


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What `repair` has found, and done.

    Attributes:
        path: the dataset's folder.
        level: "full", or "quick" if the pages of shards that look whole were not read.
        destination: where the repaired dataset is; None if nothing was written.
        done_before: whether there was nothing to write: the dataset at `destination` is as it should be.
        shards, blocks, samples, nbytes: how much is saved, of shards before they are written.
        whole: how many shards are as they were written, and stay so.
        manifest: what is wrong with the manifest; None if it is good.
        mended: what is given back bit for bit, and from where.
        lost: what is not.
        notes: what was left out, or guessed.
    """

    path: str
    level: Level
    destination: str | None = None
    done_before: bool = False
    shards: int = 0
    blocks: int = 0
    samples: int = 0
    nbytes: int = 0
    whole: int = 0
    manifest: str | None = None
    mended: tuple[str, ...] = ()
    lost: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was to be repaired."""
        return not (self.manifest or self.mended or self.lost)

    @property
    def lost_samples(self) -> int | None:
        """How many samples are lost; None if nobody knows."""
        counts = [loss.samples for loss in self.lost]
        return None if None in counts else sum(count for count in counts if count is not None)

    def to_json(self) -> dict[str, Any]:
        """The report as plain dicts and lists."""
        return {"ok": self.ok, **asdict(self), "lost_samples": self.lost_samples}
