"""HTML pages of datasets: summaries of the fields, damage, and samples by class.

Contract: whatever comes from a dataset is escaped (display/markup.py), and no page loads anything from elsewhere: its
Content-Security-Policy says so to the browser too.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from recordio.display.markup import Markup, asset, joined, style, tag
from recordio.display.pictures import data_uri, full_size, is_picture_field
from recordio.display.pieces import bars_of, cards_of, kind_text, paragraph, sample_card, sample_table
from recordio.display.summary import class_name
from recordio.display.text import bytes_text, count_text
from recordio.display.values import Damaged, classes_of, label_field
from recordio.format.page import Indices
from recordio.lazy import lazy
from recordio.reader.preview import looked_at, spread, stored_samples, summary_of
from recordio.tools.splits import Split

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset

Samples = Iterable[tuple[int, Mapping[str, Any]]]
Address = Callable[[int, str, Any], str | None]

LOOKED_AT = 1000  # samples that the summaries are made from
FULL_NBYTES = 64 << 20  # of pictures at full size in one file
FAULTS_SHOWN = 20
MOST_FIELDS = 60
_POLICY = "media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'"


@dataclass(frozen=True)
class Shown:
    """A dataset that is shown. `files` are its fields with the names of files."""

    split: Split
    dataset: ShardDataset
    files: Sequence[str]
    title: str

    @property
    def classes(self) -> dict[str, Any]:
        """The names of classes by field."""
        return {name: classes_of(name, self.dataset.metadata) for name in self.names}

    @property
    def label(self) -> str | None:
        """The field that the samples are grouped by."""
        name = label_field(self.dataset.schema, self.dataset.metadata)
        return name if name in self.names else None

    @property
    def names(self) -> list[str]:
        """The fields that are shown."""
        return list(self.dataset.schema)[:MOST_FIELDS]

    def samples(self, indices: Indices) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Number and stored values of these samples."""
        return stored_samples(self.dataset, self.names, indices)

    @lazy
    def summaries(self) -> Markup:
        """The fields with their summaries. Made once: it reads many samples."""
        return _fields(self)


def whole_page(title: str, *content: Markup, images: str = "data:") -> str:
    """A page that needs nothing from elsewhere. `images`: where the browser may take pictures from."""
    script, look = asset("recordio.tools.viewer", "page.js"), asset("recordio.tools.viewer", "page.css")
    digest = b64encode(sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src {images}; script-src 'sha256-{digest}'; {_POLICY}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        style(),
        Markup(f"<style>{look}</style>"),
    )
    viewer = tag("dialog", tag("div", class_="v-picture"), tag("div", class_="v-words"), id="viewer")
    body = tag("body", tag("main", *content, class_="recordio"), viewer, Markup(f"<script>{script}</script>"))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


class Page(NamedTuple):
    """Attributes:
    html: the page.
    damaged: how many of the samples on it cannot be read whole.
    """

    html: str
    damaged: int


def one_file(all_shown: Sequence[Shown], title: str, count: int) -> Page:
    """Everything in one page, with up to `count` samples of each dataset."""
    sections, damaged = [], 0
    for shown in all_shown:
        full, faults, n = Full(), Faults(), len(shown.dataset)
        indices = spread(n, count)
        which = f"all {n:,}" if len(indices) == n else f"{len(indices):,} of {n:,}, evenly spread"
        samples = grouped(shown, indices, faults, full)
        title_of_samples = tag("h2", "Samples ", tag("small", which))
        sections.append(
            tag("section", heading(shown), shown.summaries, faults.box, title_of_samples, samples, full.note)
        )
        damaged += len(faults.samples)
    return Page(whole_page(title, *sections), damaged)


class Full:
    """Pictures at full size as data URIs, as many as fit into one file."""

    def __init__(self) -> None:
        self._left = FULL_NBYTES
        self._left_out = 0

    def __call__(self, number: int, name: str, value: Any) -> str | None:
        found = full_size(value)
        if found is None or len(found[0]) > self._left:
            self._left_out += found is not None
            return None
        self._left -= len(found[0])
        return data_uri(*found)

    @property
    def note(self) -> Markup:
        """What does not open at full size."""
        if not self._left_out:
            return Markup()
        words = f"{count_text(self._left_out, 'picture')} are here as thumbnails alone: all at full size are over "
        return paragraph(f"{words}{bytes_text(FULL_NBYTES)}. --serve shows any.")


def heading(shown: Shown) -> Markup:
    """The dataset's name and size."""
    manifest = shown.dataset.store.manifest
    size = bytes_text(sum(manifest.table.nbytes.tolist()))
    words = f"{count_text(manifest.samples, 'sample')} in {count_text(len(manifest.shards), 'shard')}, {size}"
    return tag("header", tag("h1", shown.title), tag("p", words, " ", tag("small", shown.split.path)))


def _fields(shown: Shown) -> Markup:
    dataset = shown.dataset
    indices = looked_at(dataset, LOOKED_AT)
    cards = [_field(shown, name, indices) for name in shown.names]
    which = "all samples" if len(indices) == len(dataset) else f"{len(indices):,} samples, evenly spread"
    rest = len(dataset.schema) - len(cards)
    note = paragraph(f"{rest:,} more fields are not shown: --fields names those to show") if rest else Markup()
    head = tag("h2", "Fields ", tag("small", f"of {which}"))
    return tag("section", head, tag("div", *cards, class_="v-fields"), note)


def _field(shown: Shown, name: str, indices: Indices) -> Markup:
    summary = summary_of(shown.dataset, name, indices)
    facts = [tag("tr", tag("th", fact), tag("td", words)) for fact, words in summary.facts]
    bars = [bars_of(summary.bars)] if summary.bars else []
    kind = tag("small", kind_text(shown.dataset.schema[name]))
    return tag("div", tag("h3", name), kind, *bars, tag("table", *facts))


class Faults:
    """The faults in the samples that have passed."""

    def __init__(self) -> None:
        self._found: dict[str, dict[int, None]] = {}  # numbers of samples by reason

    def noted(self, samples: Samples) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The samples, unchanged; their faults are kept."""
        for number, sample in samples:
            for value in sample.values():
                if isinstance(value, Damaged):
                    self.note(number, value.reason)
            yield number, sample

    def note(self, number: int, reason: str) -> None:
        """A fault of a sample."""
        self._found.setdefault(reason, {})[number] = None

    @property
    def samples(self) -> set[int]:
        """The numbers of the samples with faults."""
        return {number for numbers in self._found.values() for number in numbers}

    @property
    def box(self) -> Markup:
        """Each fault once, with its samples; nothing if there is none."""
        if not self._found:
            return Markup()
        rows = [
            tag("li", tag("b", f"{'sample' if len(numbers) == 1 else 'samples'} {_listed(list(numbers))}: "), reason)
            for reason, numbers in islice(self._found.items(), FAULTS_SHOWN)
        ]
        rest = len(self._found) - FAULTS_SHOWN
        more = [tag("li", f"{rest:,} more")] if rest > 0 else []
        advice = paragraph("recordio verify names every fault of the dataset but pictures that do not decode.")
        return tag("section", tag("h2", "Damaged"), tag("ul", *rows, *more), advice, class_="v-damage")


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - FAULTS_SHOWN:,} more" if len(numbers) > FAULTS_SHOWN else ""
    return ", ".join(map(str, numbers[:FAULTS_SHOWN])) + more


def grouped(shown: Shown, indices: Indices, faults: Faults, full: Address) -> Markup:
    """Cards with pictures below the names of their classes, or a table where there are no pictures."""
    classes, label, samples = shown.classes, shown.label, faults.noted(shown.samples(indices))
    pictures = [name for name in shown.names if is_picture_field(shown.dataset.schema[name])]
    if not pictures:
        return sample_table(samples, classes)
    cards = []
    for number, sample in samples:
        value = sample[label] if label else None
        others = {name: one for name, one in sample.items() if name != label or isinstance(one, Damaged)}
        undecoded = partial(_note_undecoded, faults, pictures, number)
        card = sample_card(number, others, classes, shown.files, full, undecoded)
        cards.append(((_rank(value), _group(value, classes[label]) if label else ""), card))
    cards.sort(key=_key)  # by label: two classes may have one name
    return joined(_class(name, [card for _, card in members]) for (_, name), members in groupby(cards, _key))


def _note_undecoded(faults: Faults, pictures: Sequence[str], number: int, name: str, fault: Damaged) -> None:
    """Bytes of other fields may look like pictures, and need not be any."""
    if name in pictures:
        faults.note(number, f"{fault.reason} - field {name!r}")


def _key(card: tuple[Any, Markup]) -> Any:
    return card[0]


def _class(name: str, cards: Sequence[Markup]) -> Markup:
    head = tag("h3", name, " ", tag("small", f"{len(cards):,}")) if name else ""
    return tag("div", head, cards_of(cards), class_="v-class")


def _rank(label: Any) -> tuple[bool, int]:
    known = not isinstance(label, Damaged) and label is not None
    return not known, int(label) if known else 0


def _group(label: Any, classes: Sequence[Any]) -> str:
    if label is None:
        return "without a label"
    if isinstance(label, Damaged):
        return "label cannot be read"
    return class_name(int(label), classes) or f"{label} (no name)"
