"""What a tuning found, as lines for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from recordio.display.text import clean, cut, table
from recordio.reader.loading.profile import STEP
from recordio.reader.loading.profile_text import profile_lines, rate_text

if TYPE_CHECKING:
    from recordio.tuning.tune import Trial, Tuning


def tuning_lines(tuning: Tuning) -> Iterator[str]:
    """The profile, then what was tried, then what to do."""
    yield from profile_lines(tuning.profile)
    if tuning.bottleneck != tuning.profile.bottleneck:
        yield f"in effect   {clean(tuning.bottleneck or '')}: {clean(tuning.why)}"
    if tuning.trials:
        yield ""
        rows = [(clean(one.name), *_figures(one)) for one in tuning.trials]
        yield from table(("tried", "gain", "in rounds", "without", "with"), rows, right=(1, 2, 3, 4))
    yield ""
    yield from _advice(tuning)
    yield from (f"note: {clean(note)}" for note in tuning.notes)


def _figures(trial: Trial) -> tuple[str, str, str, str]:
    if trial.gain is None:
        return "failed", cut(trial.failed, 60), "", ""
    spread = f"{trial.lowest:.2f} to {trial.highest:.2f}"
    return f"{trial.gain:.2f}", spread, rate_text(trial.base_rate), rate_text(trial.rate)


def _advice(tuning: Tuning) -> Iterator[str]:
    if tuning.bottleneck == STEP:
        yield "advice: leave the loader as it is; the training step is what takes the time"
        return
    if not tuning.advice:
        yield "advice: nothing that was tried makes it faster" if tuning.trials else "advice: nothing was tried"
        return
    yield "advice, the largest gain first:"
    for one in tuning.advice:
        note = f" ({clean(one.note)})" if one.note else ""
        yield f"  {one.gain:.2f} times: {clean(one.how)}{note}"


def facts_of(tuning: Tuning) -> dict[str, Any]:
    """Everything, for JSON."""
    profile = asdict(tuning.profile) | {"headspace": tuning.profile.headspace}
    trials = [asdict(one) for one in tuning.trials]
    advice = [one.name for one in tuning.advice]
    found = {"bottleneck": tuning.bottleneck, "why": tuning.why, "profile": profile, "trials": trials}
    return found | {"advice": advice, "notes": list(tuning.notes)}
