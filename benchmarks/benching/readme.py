"""The table of speeds in README.md: each row leads to its line in docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from measuring import cell, say

from benching.figures import MEASURES, TIMES, Figure, ratio
from benching.section import Results, anchor


class Claim(NamedTuple):
    """A row of the table."""

    words: str
    workload: str
    measure: str
    ours: str


CLAIMS = (
    Claim("tabular, shuffled", "tabular", "shuffled", "recordio_plain"),
    Claim("Fashion-MNIST, shuffled", "fashion", "shuffled", "recordio_plain"),
    Claim("tokens, shuffled", "tokens", "shuffled", "recordio_plain"),
    Claim("text, shuffled", "text", "shuffled", "recordio_plain"),
    Claim("JPEG bytes, shuffled", "jpeg", "shuffled", "recordio_plain"),
    Claim("tabular, zstd, shuffled", "tabular", "shuffled", "recordio_zstd"),
    Claim("tokens, zstd, shuffled", "tokens", "shuffled", "recordio_zstd"),
    Claim("tokens, random batches", "tokens", "random", "recordio_plain"),
    Claim("one sample, text", "text", "one", "recordio_plain"),
)
PEERS = {
    "bagz": "Bagz",
    "bagz + fsync": "Bagz, fsync",
    "bagz_zstd": "Bagz, zstd",
    "litdata": "LitData",
    "litdata_zstd": "LitData, zstd",
    "array_record": "ArrayRecord",
    "array_record_64": "ArrayRecord, groups of 64",
    "grain": "Grain",
    "hf datasets": "HF datasets",
    "lance": "Lance",
    "webdataset": "WebDataset",
    "mds": "MosaicML Streaming",
}
UNITS = {"samples/s": "/s", "µs": " µs", "MB": " MB", "ms": " ms"}


def table(results: Results) -> Iterator[str]:
    """The rows whose figures were measured; others are said to be left out."""
    yield "| batches of 256, no workers | recordio | best peer | |"
    yield "|---|--:|--:|--:|"
    for claim in CLAIMS:
        measure = next(one for one in MEASURES if one.key == claim.measure)
        mine = results.rounds(claim.workload, claim.ours, claim.measure)
        peer = results.best_peer(claim.workload, claim.ours, measure)
        theirs = peer and results.rounds(claim.workload, peer, claim.measure)
        if not (mine and theirs):
            say(f"README.md goes without the row {claim.words!r}: no figures")
            continue
        unit = UNITS[measure.unit]
        ours, others = (three_digits(Figure.of(rounds).value) + unit for rounds in (mine, theirs))
        times = ratio(mine, theirs, measure.more_is_better).value
        link = f"[{claim.words}](docs/performance.md#{anchor(claim.measure, claim.ours)})"
        yield f"| {link} | {ours} | {PEERS[peer]} {others} | {cell(times)}{TIMES} |"


def three_digits(value: float) -> str:
    """'4,800,000' of 4,798,397: more digits would say less than the noise."""
    return cell(float(f"{value:.3g}"))
