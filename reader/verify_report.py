"""What `verify` has found: every fault, and what is proven."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self

from recordio.errors import RecordIOError, SchemaError

Level = Literal["quick", "full"]

CONFIDENCE = 0.95
_HALVINGS = 60


class ShardProof(NamedTuple):
    """A shard of which every byte was found good, and how to see whether its file was changed since.

    Attributes:
        file: its name.
        nbytes: its length.
        digest: its digest, as hex digits.
        identity: the file, in words that differ once it is another one or was written to; None if that is not known.
    """

    file: str
    nbytes: int
    digest: str
    identity: str | None

    @classmethod
    def of(cls, file: str, nbytes: int, digest: bytes, identity: Hashable) -> Self:
        """The proof of a file of this identity."""
        return cls(file, nbytes, digest.hex(), None if identity is None else repr(identity))


@dataclass(frozen=True, slots=True)
class PageSample:
    """How many pages were read of how many, and what follows.

    Attributes:
        pages: how many were drawn at random and read.
        of: how many the dataset has.
        damaged: how many of those that were read are damaged.
        at_most: the share of damaged pages in the dataset is no larger, with this confidence.
        confidence: 0.95.
    """

    pages: int
    of: int
    damaged: int
    at_most: float
    confidence: float = CONFIDENCE

    @classmethod
    def found(cls, pages: int, of: int, damaged: int) -> Self:
        """What follows from `damaged` pages among `pages` of `of`."""
        at_most = damaged / pages if pages == of and pages else _upper_bound(pages, damaged)
        return cls(pages, of, damaged, at_most)


def _upper_bound(drawn: int, found: int) -> float:
    """The share at which so few findings among so many draws have become improbable (Clopper and Pearson, 1934)."""
    low, high = found / drawn if drawn else 1.0, 1.0
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        if _probability(drawn, found, share) > 1 - CONFIDENCE:
            low = share
        else:
            high = share
    return high


def _probability(drawn: int, found: int, share: float) -> float:
    """Of at most `found` findings in `drawn` draws, each a finding with probability `share`."""
    if share in (0.0, 1.0):
        return float(share == 0.0 or found >= drawn)
    terms = range(found + 1)
    choices = (math.lgamma(drawn + 1) - math.lgamma(k + 1) - math.lgamma(drawn - k + 1) for k in terms)
    return sum(
        math.exp(log + k * math.log(share) + (drawn - k) * math.log1p(-share))
        for k, log in zip(terms, choices, strict=True)
    )


class Signed(NamedTuple):
    """A good signature of the manifest.

    Attributes:
        key: the fingerprint of the key, as ssh-keygen prints it.
        at: when it was signed, in UTC, by the signer's clock.
    """

    key: str
    at: str


@dataclass(frozen=True)
class VerifyReport:
    """The result of `verify`.

    Attributes:
        path: the dataset's folder.
        level: "quick" or "full".
        shards: number of shards in the manifest.
        blocks, samples, nbytes: how much was checked; unreadable shards do not count.
        problems: every fault, as the error that reading would raise, with its location.
        sample: what was read of the pages, if not all; None for all of them, or none at level "quick".
        unchanged: how many shards were not read again, because their files are those of an earlier report.
        parity: how many files of parity were checked.
        proven: the shards of which every byte was found good, now or by that report.
        quarantined: how many blocks are in the list that was written; None if none was.
        signed: who has signed the dataset, if a key was given and the signature is good. At level "full" every byte is
            what was signed if there are no problems; at level "quick" the manifest is.
    """

    path: str
    level: Level
    shards: int = 0
    blocks: int = 0
    samples: int = 0
    nbytes: int = 0
    problems: tuple[RecordIOError, ...] = ()
    sample: PageSample | None = None
    unchanged: int = 0
    proven: tuple[ShardProof, ...] = ()
    quarantined: int | None = None
    parity: int = 0
    signed: Signed | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The report as plain dicts and lists."""
        names = ("path", "level", "shards", "blocks", "samples", "nbytes", "unchanged", "quarantined", "parity")
        return {
            "ok": self.ok,
            **{name: getattr(self, name) for name in names},
            "signed": None if self.signed is None else self.signed._asdict(),
            "sample": None if self.sample is None else asdict(self.sample),
            "problems": [_to_json(p) for p in self.problems],
            "proven": [proof._asdict() for proof in self.proven],
        }


def _to_json(problem: RecordIOError) -> dict[str, Any]:
    place = problem.place
    where = {"file": place.file, "block": place.block, "field": place.field, "byte": place.byte}
    return {"kind": type(problem).__name__, "fault": problem.fault, **where}


def proofs_of(report: VerifyReport | Mapping[str, Any]) -> dict[str, ShardProof]:
    """The proofs in an earlier report or in its JSON, by the names of the files.

    Raises SchemaError for anything else, and for the report of a verification that did not read every page.
    """
    said = report.to_json() if isinstance(report, VerifyReport) else report
    try:
        whole = said["level"] == "full" and said["sample"] is None
        proofs = {proof.file: proof for proof in (ShardProof(**proof) for proof in said["proven"])}
    except (TypeError, KeyError) as error:  # not an object, too little or too much in it, or no name for a file
        raise SchemaError("not a report of verify: expected what its to_json() or --json gives") from error
    if not whole:
        raise SchemaError("the earlier report is of a verification that did not read every page: it proves no shard")
    return proofs
