"""`recordio verify`: checks every byte of a dataset, or of its splits, and locates damage."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from recordio.display.text import bytes_text, clean, count_text, json_line
from recordio.errors import CorruptError, DecodeError, RecordIOError, SchemaError
from recordio.tools.output import say, seconds_text
from recordio.tools.progress import Progress, rate_text
from recordio.tools.splits import Split, find_splits
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.proof.report import Comparison
    from recordio.reader.verify import VerifyReport
    from recordio.reader.verify_report import PageSample

SUMMARY = "check that every byte of a dataset is what was written, and every sample what its source holds"
STOPPED = "stopped before the end: nothing is proved; run the same command again"
EXAMPLES = """\
examples:
  recordio verify digits            read every byte
  recordio verify digits --quick    sizes, headers and footers only
  recordio verify digits --json     one line: {"ok": ..., "datasets": [...]}
  recordio verify digits --json --since report.json    read only the shards whose files were changed since
  recordio verify digits --quarantine    then ShardDataset("digits", on_damage="skip") trains on the rest
  recordio verify digits --sample 10000                read 10,000 pages at random, and say what follows from them
  recordio verify digits --key public.pem              every byte is what its owner has signed
  recordio verify photos.rio --against photos/    read the source again too, and compare every sample
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DST", help="a dataset, a folder of splits, or the URL of a dataset")
    parser.add_argument("--quick", action="store_true", help="check sizes, headers and footers only")
    parser.add_argument("--sample", type=int, metavar="N", help="read N pages only, drawn at random")
    parser.add_argument(
        "--since", metavar="REPORT", help="read only what was changed since this report, printed by --json"
    )
    parser.add_argument(
        "--quarantine", action="store_true", help="list the damaged blocks beside the manifest, to train without them"
    )
    parser.add_argument("--key", metavar="FILE", help="the public key of who signed it: compare what was signed")
    parser.add_argument("--against", metavar="SRC", help="compare every sample with what it was converted from")
    parser.add_argument(
        "--differences", type=int, default=10, metavar="N", help="describe the first N of them, 10 by default"
    )
    parser.add_argument("--root", metavar="DIR", help="the folder of the files that a table names, as for convert")
    parser.add_argument("--tokenizer", metavar="FILE", help="the tokenizer.json that made the tokens, as for convert")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that compare samples")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_storage_option(parser)


def run(options: argparse.Namespace) -> int:
    reports = []
    since = {} if options.since is None else _earlier(options.since)
    for split in find_splits(options.path, options.storage):
        report, seconds = _verify(split, options, since)
        reports.append((split, report))
        if not options.json:
            _print(split, report, seconds)
    good = all(report.ok for _, report in reports)
    compared = _compare(options) if good and options.against is not None else {}
    same = all(comparison.ok for comparison in compared.values())
    if options.json:
        facts = [_json(split, report) | _against(compared, split) for split, report in reports]
        say(json_line({"ok": good and same, "datasets": facts}))
    if not same:
        return 1
    damaged = any(
        isinstance(problem, (CorruptError, DecodeError)) for _, report in reports for problem in report.problems
    )
    if good:
        return 0
    return 1 if damaged else 2


def _earlier(path: str) -> dict[str | None, Any]:
    """The reports that `verify --json` has printed, by split. Raises SchemaError for anything else."""
    import json

    try:
        with open(path, "rb") as file:
            found = json.loads(file.read())
        return {report["split"]: report for report in found["datasets"]}
    except OSError as error:
        raise SchemaError(f"the report cannot be read ({error.strerror}): {path}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise SchemaError(f"not a report that `recordio verify --json` has printed: {path}") from None


def _verify(split: Split, options: argparse.Namespace, since: Mapping[str | None, Any]) -> tuple[VerifyReport, float]:
    """The report of one dataset, and its seconds. A broken split does not stop the others from being checked."""
    from recordio.reader.verify import VerifyReport, verify

    level: Literal["quick", "full"] = "quick" if options.quick else "full"
    earlier = since.get(split.name)
    label = f"verify {clean(split.name)}" if split.name else "verify"
    with Progress(label, "bytes" if options.sample is None else "pages", quiet=options.json) as progress:
        try:
            report = verify(
                split.path,
                level,
                sample=options.sample,
                since=earlier,
                quarantine=options.quarantine,
                key=options.key,
                progress=progress,
                storage=split.storage,
            )
        except SchemaError:
            raise
        except RecordIOError as error:
            if split.name is None:
                raise
            report = VerifyReport(split.path, level, problems=(error,))
    return report, progress.seconds


def _compare(options: argparse.Namespace) -> dict[str, Comparison]:
    """The comparison of each split, "" for a single dataset."""
    import recordio

    names = ("root", "tokenizer")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    with Progress("compare", "samples", quiet=options.json) as progress:
        found = recordio.compare(
            options.path,
            options.against,
            differences=options.differences,
            workers=options.workers,
            progress=progress,
            **given,
        )
    compared = found if isinstance(found, dict) else {"": found}
    if not options.json:
        for comparison in compared.values():
            for line in _comparison_lines(comparison, options.against, progress.seconds):
                say(line)
    return compared


def _comparison_lines(comparison: Comparison, source: str, seconds: float) -> Iterator[str]:
    path, samples = clean(comparison.path), count_text(comparison.samples, "sample")
    for difference in comparison.differences:
        yield clean(str(difference))
    if comparison.ok:
        took = f", in {seconds_text(seconds)}"
        yield f"OK  {path}: {samples}, each as {clean(source)} ({comparison.kind}) holds it{took}"
        return
    names = ("changed", "missing", "additional", "unreadable")
    counts = [f"{count:,} {name}" for name in names if (count := getattr(comparison, name))]
    words = ", ".join([*counts, *(["in another order"] if comparison.reordered else [])])
    yield f"FAILED  {path}: {samples}, not as {clean(source)} holds them{': ' if words else ''}{words}"


def _against(compared: Mapping[str, Comparison], split: Split) -> dict[str, Any]:
    comparison = compared.get(split.name or "")
    return {} if comparison is None else {"against": comparison.to_json()}


def _json(split: Split, report: VerifyReport) -> dict[str, Any]:
    return {"split": split.name, **report.to_json()}


def _print(split: Split, report: VerifyReport, seconds: float) -> None:
    path = clean(split.path)
    for problem in report.problems:
        say(f"{clean(split.name)}: {clean(str(problem))}" if split.name else clean(str(problem)))
    if not report.ok:
        found = f"; {_sample_text(report.sample)}" if report.sample else ""
        listed = f"; {count_text(report.quarantined, 'block')} in quarantine" if report.quarantined else ""
        say(f"FAILED  {path}: {count_text(len(report.problems), 'problem')}{found}{listed}")
        return
    if report.sample is not None:
        say(f"OK  {path}: {_sample_text(report.sample)}, in {seconds_text(seconds)}")
        return
    counts = ((report.shards, "shard"), (report.blocks, "block"), (report.samples, "sample"))
    parity = f"; {count_text(report.parity, 'file')} of parity" if report.parity else ""
    speed = f" in {seconds_text(seconds)}" + (f", {rate_text(report.nbytes / seconds, 'bytes')}" if seconds > 0 else "")
    quick = " (quick: pages were not read)" if report.level == "quick" else ""
    same = f"; {count_text(report.unchanged, 'shard')} as before, not read again" if report.unchanged else ""
    size = f"{', '.join(count_text(*count) for count in counts)}, {bytes_text(report.nbytes)}"
    say(f"OK  {path}: {size}{speed}{quick}{parity}{same}")
    if report.signed is not None:
        what = "the manifest" if report.level == "quick" else "every byte"
        say(f"    {what} is what was signed at {clean(report.signed.at)} with the key {report.signed.key}")


def _sample_text(sample: PageSample) -> str:
    read = f"{sample.pages:,} of {count_text(sample.of, 'page')} read, {sample.damaged:,} damaged"
    if sample.pages == sample.of:
        return read
    return f"{read}: with {sample.confidence:.0%} confidence, {_share_text(sample.at_most)} of all are, at most"


def _share_text(share: float) -> str:
    return f"{share:.2%}" if share >= 0.0001 else f"{share * 1e6:.2g} in a million"
