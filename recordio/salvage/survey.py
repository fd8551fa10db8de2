"""What is left of a dataset: each of its shards in turn, and what of it is lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from recordio.display.text import count_text
from recordio.errors import RecordIOError
from recordio.format.manifest import Manifest
from recordio.format.shard_table import ShardEntry, shard_name
from recordio.reader.io_choice import choose_io
from recordio.reader.page_checks import Check, PageChecks
from recordio.salvage.copies import ShardCopy, look, parsed
from recordio.salvage.identity import Identity, Other, identify
from recordio.salvage.mending import Faults, Mended, Mender
from recordio.salvage.parity import Source, given_back, is_given_back
from recordio.salvage.report import Level, Loss, RepairReport, merged
from recordio.storage.base import Storage
from recordio.storage.dataset_files import open_shard_file
from recordio.storage.parity_files import parity_problems

GONE = "the shard is missing"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Whole:
    """A shard that is as it was written, under its own name."""

    copy: ShardCopy
    entry: ShardEntry

    @property
    def number(self) -> int:
        return self.entry.number

    @property
    def samples(self) -> int:
        """How many it has."""
        return self.entry.samples

    saved_samples = samples


@dataclass(frozen=True)
class Survey:
    """What is left of a dataset.

    Attributes:
        identity: which dataset it is.
        shards: what is left of each of its shards, in order.
        report: the same in words and numbers.
        bad_parity: what is wrong with files of parity, by their names.
    """

    identity: Identity
    shards: Sequence[Whole | Mended]
    report: RepairReport
    bad_parity: Mapping[str, str]

    def manifest(self, entries: Sequence[ShardEntry]) -> Manifest:
        """The manifest of these shards of the dataset."""
        was = self.identity.manifest
        same = not self.report.lost and self.identity.has_all
        return replace(was, shards=entries, statistics=was.statistics if same else None)


def survey(storage: Storage, folder: str, other: Other | None, level: Level, progress: Progress | None) -> Survey:
    """Looks at a folder, and where something is missing there, at another copy of the dataset with its label.

    Raises DatasetError if there is nothing of a dataset, StorageError.
    """
    identity = identify(storage, folder, other)
    surveyor = _Surveyor(storage, identity, other, level)
    shards = surveyor.shards(progress)
    bad_parity = surveyor.bad_parity(shards)
    report = RepairReport(
        path=folder,
        level=level,
        shards=sum(isinstance(shard, Whole) or shard.header is not None for shard in shards),
        blocks=sum(saved_blocks(shard) for shard in shards),
        samples=sum(shard.saved_samples for shard in shards),
        nbytes=sum(_nbytes(shard) for shard in shards),
        whole=sum(isinstance(shard, Whole) for shard in shards),
        manifest=identity.fault,
        mended=(*_mended(shards), *(f"{name}: made anew: {fault}" for name, fault in bad_parity.items())),
        lost=tuple(_lost(shards)),
        notes=identity.notes,
    )
    return Survey(identity, shards, report, bad_parity)


class _Surveyor:
    """Finds what is left of each shard. `identity`: of the dataset. `level` "quick" reads no pages of whole shards."""

    def __init__(self, storage: Storage, identity: Identity, other: Other | None, level: Level) -> None:
        self._storage = storage
        self._identity = identity
        files = {file.number: file for file in (identity.manifest.parity.files if identity.manifest.parity else ())}
        self._parity = [(header, files[header.number]) for header in identity.parity]
        self._manifest = identity.manifest
        self._other = other
        self._full = level == "full"
        nbytes = sum(copy.nbytes for copy in identity.copies)
        self._checks = PageChecks(
            self._manifest, direct=choose_io("auto", storage, nbytes).kind == "direct", remote=storage.is_remote
        )
        self._mender = Mender(self._manifest.dataset_id, self._manifest.schema, identity.texts)
        self._by_name = {copy.name: copy for copy in identity.copies}
        self._by_claim: dict[int, list[ShardCopy]] = defaultdict(list)
        for copy in (*identity.copies, *identity.staged):
            for dataset_id, number in copy.claims:
                if dataset_id == self._manifest.dataset_id:
                    self._by_claim[number].append(copy)

    def shards(self, progress: Progress | None) -> list[Whole | Mended]:
        """What is left of each shard of the dataset, in order."""
        whole = [self._whole(number, entry) for number, entry in self._identity.wanted]
        bad = self._bad([one for one in whole if one is not None], progress) if self._full else {}
        wanted = self._identity.wanted
        every = {
            number: found if found is not None and not bad.get(found.copy) else self._mended(number, entry, bad)
            for found, (number, entry) in zip(whole, wanted, strict=True)
        }
        before, saved = -1, 0
        while before < saved:  # what is given back of one shard may help another
            before = sum(map(saved_blocks, every.values()))
            every = {number: self._given_back(every, entry, every[number], bad) for number, entry in wanted}
            saved = sum(map(saved_blocks, every.values()))
        return list(every.values())

    def bad_parity(self, shards: Sequence[Whole | Mended]) -> dict[str, str]:
        """What is wrong with the files of parity of these shards, by their names."""
        entries = {shard.number: shard.entry for shard in shards}
        bad: dict[str, str] = {}
        for header, file in self._parity:
            for problem in parity_problems(self._storage, header, file, self._full):
                bad.setdefault(file.name, problem.fault)
            if any(entries.get(one.number) not in (None, one) for one in header.shards):
                bad.setdefault(file.name, "it is the parity of other shards")
        return bad

    def _given_back(
        self,
        every: Mapping[int, Whole | Mended],
        entry: ShardEntry | None,
        shard: Whole | Mended,
        bad: Mapping[ShardCopy, Faults],
    ) -> Whole | Mended:
        """The shard, with what parity gives back of it where something is lost."""
        if isinstance(shard, Whole) or not shard.losses:
            return shard
        group = next((one for one in self._parity if shard.number in one[1].shards), None)
        if group is None:
            return shard

        def source(number: int) -> Source | None:
            other = every.get(number)
            if isinstance(other, Whole):
                return Source(other.copy)
            copy = next(iter(self._copies(number)), None)
            return None if other is None or (other.footer is None and copy is None) else Source(copy, other)

        header, file = group
        try:
            copy = given_back(self._storage, header, file, shard.number, source)
        except RecordIOError as error:
            return replace(shard, losses=[_explained(loss, error.fault) for loss in shard.losses])
        found = self._mended(shard.number, entry, bad, [copy])
        why = f"{file.name} does not give it back, as another file of its group is damaged in the same place"
        gone = shard.header is None and shard_name(shard.number) not in self._by_name
        losses = [_explained(replace(loss, fault=GONE) if gone else loss, why) for loss in found.losses]
        return replace(found, losses=merged(losses))

    def _whole(self, number: int, entry: ShardEntry | None) -> Whole | None:
        """The shard, if header, footer and index of the file of its name prove it."""
        copy = self._by_name.get(shard_name(number))
        shard = self._manifest.dataset_id, number
        if copy is None or copy.fault is not None or copy.claims != {shard} or copy.text is None:
            return None
        try:
            if parsed(copy.text)[0] != self._manifest.schema:
                return None
            found = copy.entry(self._manifest.schema)
        except RecordIOError:
            return None
        return None if found is None or found != (entry or found) else Whole(copy, found)

    def _bad(self, whole: Sequence[Whole], progress: Progress | None) -> dict[ShardCopy, Faults]:
        """Reads all pages of these shards: the bad blocks of each."""
        bad: dict[ShardCopy, dict[int, RecordIOError]] = {one.copy: {} for one in whole}
        total, done = sum(one.copy.nbytes for one in whole), 0
        for one in self._checks.results(self._page_checks(whole)):
            for problem in one.problems:
                bad[whole[one.shard].copy].setdefault(problem.place.block or 0, problem)
            done += one.nbytes
            if progress is not None:
                progress(done, total)
        return dict(bad)

    def _page_checks(self, whole: Sequence[Whole]) -> Iterator[Check]:
        for position, one in enumerate(whole):
            index = one.copy.index(self._manifest.schema)
            file = open_shard_file(one.copy.storage, one.copy.name, one.copy.place)  # closed with the last check of it
            yield from self._checks.of_shard(position, self._checks.opened(file, one.entry.number, index))

    def _copies(self, number: int) -> list[ShardCopy]:
        """The files that are, or may be, the shard; that of its name comes first."""
        named = self._by_name.get(shard_name(number))
        shard = self._manifest.dataset_id, number
        copies = [named] if named is not None and (not named.claims or shard in named.claims) else []
        return copies + [copy for copy in self._by_claim[number] if copy is not named]

    def _mended(
        self,
        number: int,
        entry: ShardEntry | None,
        bad: Mapping[ShardCopy, Faults],
        given_back: Sequence[ShardCopy] = (),
    ) -> Mended:
        named = self._by_name.get(shard_name(number))
        shard = self._manifest.dataset_id, number
        copies = self._copies(number)
        if self._other is not None:
            copy = self._other_copy(number, entry, *self._other)
            copies += [copy] if copy.nbytes and (not copy.claims or shard in copy.claims) else []
        mended = self._mender.mend(number, entry, [*copies, *given_back], bad)
        if mended.header is not None:
            return mended
        blocks = None if entry is None else entry.blocks
        lost = Loss(shard_name(number), self._why_gone(named), 0, blocks, 0, mended.samples)
        return replace(mended, losses=[lost])

    def _other_copy(self, number: int, entry: ShardEntry | None, storage: Storage, label: str) -> ShardCopy:
        """The shard in the other copy of the dataset. Over a network, only one that the manifest knows."""
        name, place = shard_name(number), None
        if storage.is_remote:
            if entry is None:
                return ShardCopy(storage, name, name)
            place = self._mender.place_of(entry)
        return look(storage, name, f"{label}/{name}", place)

    def _why_gone(self, named: ShardCopy | None) -> str:
        if named is None:
            return GONE
        if named.fault is not None:
            return named.fault.fault
        own = {number for dataset_id, number in named.claims if dataset_id == self._manifest.dataset_id}
        return f"the file of this name is shard {min(own)}" if own else "the file of this name is of another dataset"


def _explained(loss: Loss, why: str) -> Loss:
    """The loss, and why parity does not help."""
    return loss if loss.fault.endswith(why) else replace(loss, fault=f"{loss.fault}; {why}")


def _lost(shards: Sequence[Whole | Mended]) -> Iterator[Loss]:
    """All losses, by the numbers of the samples of the dataset."""
    before: int | None = 0
    for shard in shards:
        if isinstance(shard, Mended):
            yield from (loss.shifted(before) for loss in shard.losses)
        before = None if before is None or shard.samples is None else before + shard.samples


def _mended(shards: Sequence[Whole | Mended]) -> Iterator[str]:
    """What is given back as it was written, and from where."""
    for shard in shards:
        if isinstance(shard, Whole) or shard.losses:
            continue
        name = shard_name(shard.number)
        if shard.footer is None:
            yield f"{name}: all blocks, under a header made anew"
        elif shard.whole is not None:
            how = "given back by" if is_given_back(shard.whole) else "found in"
            yield f"{name}: {how} {shard.whole.label}"
        else:
            counts = Counter(source.copy.label for source in shard.blocks)
            others = [f"{count_text(count, 'block')} from {label}" for label, count in counts.items() if label != name]
            yield f"{name}: {', '.join(others) or 'its header, index or footer made anew'}"


def saved_blocks(shard: Whole | Mended) -> int:
    """How many blocks are saved."""
    return shard.entry.blocks if isinstance(shard, Whole) else len(shard.blocks)


def _nbytes(shard: Whole | Mended) -> int:
    if isinstance(shard, Whole):
        return shard.copy.nbytes
    if shard.footer is not None:
        return shard.footer.file_nbytes
    return sum(block.block_nbytes for _, block in shard.blocks)
