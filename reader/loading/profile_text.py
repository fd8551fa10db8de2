"""A profile as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recordio.display.text import clean, cut, seconds_text, table

if TYPE_CHECKING:
    from recordio.reader.loading.profile import Profile

_NAME_COLUMNS = 40


def profile_lines(profile: Profile) -> Iterator[str]:
    """The headspace first, then the rates, then the stages."""
    yield headspace_text(profile)
    batches, first = f"{profile.batches_per_second:,.1f} batches/s", seconds_text(profile.first_batch_seconds)
    yield f"rate        {rate_text(profile.rate)}, {batches}; first batch after {first}"
    if profile.blocked is not None:
        yield (
            f"waiting     the consumer {profile.starved:.0%} of the time for batches, the loader "
            f"{profile.blocked:.0%} for the consumer; {profile.batches_ready or 0:.1f} batches ready on average"
        )
    yield f"workers     {profile.workers}"
    if profile.stages:
        yield ""
        yield from stage_table(profile)
    yield ""
    slow = "not known" if profile.bottleneck is None else f"{clean(profile.bottleneck)}: {clean(profile.why)}"
    yield f"bottleneck  {slow}"
    for note in profile.notes:
        yield f"note        {clean(note)}"


def headspace_text(profile: Profile) -> str:
    """How much faster training could be."""
    if profile.headspace is None or profile.ideal_rate is None:
        return "headspace   not known: without a training step there is no saying whether the loader matters"
    step = seconds_text(profile.step_seconds or 0)
    return (
        f"headspace   {profile.headspace:.2f} times: with an ideal loader {rate_text(profile.ideal_rate)}, "
        f"a step of {step}"
    )


def rate_text(rate: float) -> str:
    """'1,234 samples/s'."""
    return f"{rate:,.0f} samples/s" if rate >= 9.95 else f"{rate:.1f} samples/s"


def stage_table(profile: Profile) -> list[str]:
    """The stages in the order in which samples pass through them."""
    head = ("stage", "one worker alone, samples/s", "µs a sample", "share")
    rows = [
        (
            cut(clean(stage.name), _NAME_COLUMNS),
            "" if stage.alone is None else f"{stage.alone:,.0f}",
            f"{stage.seconds * 1e6:,.2f}",
            f"{stage.share:.0%}",
        )
        for stage in profile.stages
    ]
    return table(head, rows, right=(1, 2, 3))
