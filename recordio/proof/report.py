"""What a comparison of a dataset with its source has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        kind: "changed" (a sample has another value), "missing" (it is in the source alone), "additional" (in the
            dataset alone), "unreadable" (an input that was not skipped when the dataset was made), "fields" or
            "metadata" (no sample was compared).
        sample: its number in the dataset, None if it is not there.
        source: the name of what it was made of, such as a file or a line; None if it is not there.
        fields: by name, the values in the dataset and in the source, in few words.
        reason: why an input cannot be read.
    """

    kind: str
    sample: int | None = None
    source: str | None = None
    fields: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    reason: str = ""

    def __str__(self) -> str:
        where = [f"sample {self.sample}"] if self.sample is not None else []
        where += [self.source] if self.source is not None else []
        values = [f"{name or 'it'} is {here}, {there} in the source" for name, (here, there) in self.fields.items()]
        return " - ".join([self.kind, *where, *(["; ".join(values)] if values else []), *filter(None, [self.reason])])


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `recordio.compare`.

    Attributes:
        path: the dataset's folder.
        kind: what the source was taken for.
        samples: how many samples of the dataset were compared.
        changed: samples that differ in a value.
        missing: samples that are in the source alone.
        additional: samples that are in the dataset alone.
        unreadable: inputs that cannot be read now, and were not skipped when the dataset was made.
        reordered: whether both hold the same samples, but in another order.
        differences: the first of them.
    """

    path: str
    kind: str
    samples: int = 0
    changed: int = 0
    missing: int = 0
    additional: int = 0
    unreadable: int = 0
    reordered: bool = False
    differences: tuple[Difference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every sample is what the source holds."""
        counts = self.changed + self.missing + self.additional + self.unreadable
        return not (counts or self.reordered or self.differences)

    def to_json(self) -> dict[str, Any]:
        """The result as plain dicts and lists."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "differences"}
        found = [
            {
                "kind": one.kind,
                "sample": one.sample,
                "source": one.source,
                "fields": {name: list(values) for name, values in one.fields.items()},
                "reason": one.reason,
            }
            for one in self.differences
        ]
        return {"ok": self.ok, **plain, "differences": found}
