"""What is left of a shard in all copies of it: the shard bit for bit, or its good blocks.

That it is bit for bit the same is proven by the digest in the manifest, or in the footer of a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from recordio.errors import RecordIOError
from recordio.format.block import BlockHeader
from recordio.format.index import Index
from recordio.format.layout import CHECKSUM, FOOTER
from recordio.format.schema import Schema
from recordio.format.shard import Footer, ShardHeader, shard_digest
from recordio.format.shard_table import ShardEntry, shard_name
from recordio.salvage.blocks import asked_for, found_blocks, headers_of, read_block
from recordio.salvage.copies import Claim, ShardCopy
from recordio.salvage.report import Loss, merged
from recordio.storage.base import ShardPlace

Faults = Mapping[int, RecordIOError]  # of blocks, by number
NOT_FOUND = "no block was found where these were"


class BlockSource(NamedTuple):
    """A good block, and where it is."""

    copy: ShardCopy
    header: BlockHeader


@dataclass(frozen=True)
class Mended:
    """What is left of a shard.

    Attributes:
        number: its number.
        blocks: its good blocks, in order.
        header: the bytes of its header; None if no block is left.
        footer, index: of the shard as it was written, if all of it is there; else None.
        whole: a copy that is the shard as it was written.
        losses: the blocks that are lost; `first_sample` counts within the shard.
        samples: how many it had; None if nobody knows.
    """

    number: int
    blocks: Sequence[BlockSource]
    header: bytes | None
    footer: Footer | None = None
    index: bytes | None = None
    whole: ShardCopy | None = None
    losses: Sequence[Loss] = ()
    samples: int | None = None

    @property
    def saved_samples(self) -> int:
        """How many are left."""
        return sum(block.samples for _, block in self.blocks)

    @property
    def entry(self) -> ShardEntry | None:
        """What a manifest says of the shard as it was written; None if it is not all there."""
        if self.footer is None:
            return None
        content = sum(page.nbytes for _, block in self.blocks for page in block.pages)
        return ShardEntry.of(self.footer, content, [block.samples for _, block in self.blocks])


class _Proof(NamedTuple):
    """A header, an index and a footer that prove each other."""

    header: bytes
    index_data: bytes
    footer: Footer
    blocks: Sequence[BlockHeader]


@dataclass(frozen=True)
class Mender:
    """Mends shards of a dataset.

    Attributes:
        dataset_id: the dataset.
        schema: its fields.
        texts: the JSON of headers of its shards: those of a shard whose header is damaged is one of them.
    """

    dataset_id: bytes
    schema: Schema
    texts: Sequence[bytes]

    def place_of(self, entry: ShardEntry) -> ShardPlace:
        """Where a storage over a network finds the parts of a shard."""
        return ShardPlace.of(entry.footer(self.dataset_id, len(self.schema)), self.texts[0] if self.texts else b"")

    def mend(
        self, number: int, entry: ShardEntry | None, copies: Sequence[ShardCopy], bad: Mapping[ShardCopy, Faults]
    ) -> Mended:
        """The shard, from these copies, the first of them preferred.

        Args:
            number: the shard's number.
            entry: what the manifest says of it; None if there is no manifest.
            copies: files that may be the shard.
            bad: the bad blocks of copies of which all blocks have been checked.
        """
        shard = self.dataset_id, number
        footers = self._footers(shard, entry, copies)
        headers = self._headers(shard, copies)
        proof = self._proof(shard, copies, headers, footers)
        candidates = {copy: list(proof.blocks) for copy in copies} if proof else self._scanned(shard, entry, copies)
        good, faults = self._good(candidates, bad)
        if proof is None:
            proof = self._proof_of_blocks(good, copies, headers, footers)
        known = {header.block: header for found in candidates.values() for header in reversed(found)} | {
            source.header.block: source.header for source in good
        }
        blocks = footers[0].blocks if footers else len(proof.blocks) if proof else None
        samples = footers[0].samples if footers else proof.footer.samples if proof else None
        lost = merged(_losses(shard_name(number), known, {s.header.block for s in good}, faults, blocks, samples))
        if proof and not lost:
            whole = self._whole(proof, good)
            return Mended(number, good, proof.header, proof.footer, proof.index_data, whole, samples=samples)
        header = headers[0] if headers and good else None
        return Mended(number, good if header else (), header, losses=lost, samples=samples)

    def _footers(self, shard: Claim, entry: ShardEntry | None, copies: Sequence[ShardCopy]) -> list[Footer]:
        """The footer that the manifest means, or those of the copies."""
        if entry is not None:
            return [entry.footer(self.dataset_id, len(self.schema))]
        found = [copy.footer for copy in copies if copy.footer is not None]
        return [footer for footer in found if (footer.dataset_id, footer.number) == shard]

    def _headers(self, shard: Claim, copies: Sequence[ShardCopy]) -> list[bytes]:
        """The headers of the copies, and what it may have been by the others of the dataset."""
        own = [copy.header for copy in copies if copy.header is not None and shard in copy.claims]
        own = [header for header in own if ShardHeader.decode_fixed(header)[:2] == shard]
        return list(dict.fromkeys([*own, *(ShardHeader.encode_text(*shard, text) for text in self.texts)]))

    def _proof(
        self, shard: Claim, copies: Iterable[ShardCopy], headers: Sequence[bytes], footers: Iterable[Footer]
    ) -> _Proof | None:
        for copy, footer in product(copies, footers):
            try:
                with copy.opened() as file:
                    data = file.read(footer.index_offset, footer.index_nbytes)
            except RecordIOError:
                continue
            for header in headers:
                try:
                    index = Index.decode(data, footer, header, self.schema)
                except RecordIOError:
                    continue
                return _Proof(header, data, footer, headers_of(index, shard))
        return None

    def _scanned(
        self, shard: Claim, entry: ShardEntry | None, copies: Sequence[ShardCopy]
    ) -> dict[ShardCopy, list[BlockHeader]]:
        """The blocks that the copies hold, found without an index. What the manifest contradicts is left out."""
        counts = None if entry is None else entry.block_samples().tolist()
        found: dict[ShardCopy, list[BlockHeader]] = {}
        for copy in copies:
            try:
                with copy.opened() as file:
                    every = list(found_blocks(file, shard, self.schema))
            except RecordIOError:
                continue
            if counts is not None:
                every = [one for one in every if one.block < len(counts) and one.samples == counts[one.block]]
            found[copy] = every
        return found

    def _good(
        self, candidates: Mapping[ShardCopy, Sequence[BlockHeader]], bad: Mapping[ShardCopy, Faults]
    ) -> tuple[list[BlockSource], dict[int, str]]:
        """The good blocks, and the first fault of those that are bad in every copy."""
        good: dict[int, BlockSource] = {}
        faults: dict[int, str] = {}
        for copy, headers in candidates.items():
            for header, fault in self._checked(copy, [one for one in headers if one.block not in good], bad.get(copy)):
                if fault is None:
                    good[header.block] = BlockSource(copy, header)
                else:
                    faults.setdefault(header.block, fault)
        return [good[number] for number in sorted(good)], faults

    def _checked(
        self, copy: ShardCopy, headers: Sequence[BlockHeader], bad: Faults | None
    ) -> Iterator[tuple[BlockHeader, str | None]]:
        if bad is not None:
            yield from ((one, _words(bad[one.block]) if one.block in bad else None) for one in headers)
            return
        if not headers:
            return
        try:
            with copy.opened() as file:
                for header in asked_for(file, headers):
                    try:
                        read_block(file, header, self.schema)
                        yield header, None
                    except RecordIOError as error:
                        yield header, _words(error)
        except RecordIOError as error:
            yield from ((header, _words(error)) for header in headers)

    def _proof_of_blocks(
        self,
        good: Sequence[BlockSource],
        copies: Iterable[ShardCopy],
        headers: Iterable[bytes],
        footers: Sequence[Footer],
    ) -> _Proof | None:
        """The proof that these blocks are the whole shard: a digest, or the index that follows them in a copy."""
        blocks = [source.header for source in good]
        rows = [(one.samples, CHECKSUM.unpack(one.encode()[-CHECKSUM.size :])[0], one.pages) for one in blocks]
        data = Index.encode(len(self.schema), rows)
        ends = [one.offset + one.block_nbytes for one in blocks]
        for header in headers:
            starts = [len(header), *ends]
            if [one.block for one in blocks] != list(range(len(blocks))) or starts[:-1] != [b.offset for b in blocks]:
                continue
            digest = shard_digest(header, data)
            for footer in footers:
                if footer.digest == digest:
                    return _Proof(header, data, footer, blocks)
            if not footers and any(_follows(copy, data, starts[-1]) for copy in copies):
                footer = self._footer(header, data, starts[-1], sum(one.samples for one in blocks), len(blocks))
                return _Proof(header, data, footer, blocks)
        return None

    def _footer(self, header: bytes, index: bytes, offset: int, samples: int, blocks: int) -> Footer:
        dataset_id, number, _ = ShardHeader.decode_fixed(header)
        return Footer(
            dataset_id=dataset_id,
            number=number,
            fields=len(self.schema),
            file_nbytes=offset + len(index) + FOOTER.size,
            index_offset=offset,
            index_nbytes=len(index),
            samples=samples,
            blocks=blocks,
            digest=shard_digest(header, index),
        )

    def _whole(self, proof: _Proof, good: Sequence[BlockSource]) -> ShardCopy | None:
        """The copy that all the blocks are from, if the rest of it is good too."""
        copies = {source.copy for source in good}
        copy = copies.pop() if len(copies) == 1 else None
        if copy is None or copy.header != proof.header or copy.footer != proof.footer or copy.fault is not None:
            return None
        try:
            with copy.opened() as file:
                same = file.read(proof.footer.index_offset, len(proof.index_data)) == proof.index_data
        except RecordIOError:
            return None
        return copy if same else None


def _words(error: RecordIOError) -> str:
    """The fault of a block without the place, but for the field."""
    return error.fault if error.place.field is None else f"{error.fault}, field {error.place.field!r}"


def _follows(copy: ShardCopy, index: bytes, offset: int) -> bool:
    """Whether this index stands there in a copy."""
    try:
        with copy.opened() as file:
            return bool(index) and file.read(offset, len(index)) == index
    except RecordIOError:
        return False


def _losses(
    file: str,
    known: Mapping[int, BlockHeader],
    good: set[int],
    faults: Mapping[int, str],
    blocks: int | None,
    samples: int | None,
) -> Iterator[Loss]:
    """What is missing among the blocks of a shard, of which `known` have been seen, of so many blocks and samples."""
    block = first = 0
    for number, header in sorted(known.items()):
        if number > block:
            yield Loss(file, NOT_FOUND, block, number - block, first, header.first - first)
        if number not in good:
            yield Loss(file, faults.get(number, NOT_FOUND), number, 1, header.first, header.samples)
        block, first = number + 1, header.first + header.samples
    if blocks is None or block < blocks:
        left = None if blocks is None else blocks - block
        yield Loss(file, NOT_FOUND, block, left, first, None if samples is None else samples - first)
