"""Changes to the files of a dataset, tried on copies of some samples: other codecs and blocks, smaller pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recordio.edit.reshard import reshard, stored_nbytes
from recordio.format.codec import Codec
from recordio.format.image_field import Image
from recordio.images.decode import decode_image
from recordio.images.encode import resize_image
from recordio.images.header import read_header
from recordio.reader.dataset import ShardDataset
from recordio.reader.loading.loader import DataLoader
from recordio.reader.loading.profile import Profile
from recordio.reader.loading.stages_alone import CHECKSUM, DECODING, DECOMPRESSION, STORAGE
from recordio.tuning.changes import FETCHING, FILES, Change, read_otherwise, rebuilt
from recordio.writer.dataset_writer import DatasetWriter

_NBYTES = 16 << 20  # of files that are copied
_LEAST_BATCHES = 8
_DECODED = 256  # pictures that are decoded for a copy
_WINDOWS = 4  # in a copy: one is read while another is delivered, as in a large dataset
_BLOCK_NBYTES = 1 << 20
_SIDE = 256  # of pictures made smaller


class _Copy(NamedTuple):
    """A copy to try, and the function that makes it. `of_pictures`: a few samples will do."""

    name: str
    how: str
    make: Callable[[ShardDataset, Path, str], Path]
    note: str = ""
    of_pictures: bool = False


@dataclass
class Copies:
    """Copies of a part of the dataset of a loader.

    Args:
        loader: the user's.
        profile: what is known of it.
        folder: a temporary folder.

    Attributes:
        notes: what was not tried, and why.
    """

    loader: DataLoader
    profile: Profile
    folder: Path
    notes: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def changes(self) -> Iterator[Change]:
        """The changes to try; the copy of each is made when it is its turn."""
        wanted = list(self._wanted())
        if not wanted:
            return
        if (why := self._refusal()) is not None:
            self.notes.append(f"other files were not tried ({', '.join(one.name for one in wanted)}): {why}")
            return
        for one in wanted:
            source = self._part(_DECODED if one.of_pictures else None)
            make, base = partial(self._changed, one.make, source, one.name), partial(self._base, source)
            yield Change(one.name, one.how, FILES, make, base, note=one.note)

    def _refusal(self) -> str | None:
        """Why copies say nothing about this loader."""
        loader = self.loader
        if not isinstance(loader.dataset, ShardDataset):
            return "there are several datasets; tune each of them"
        if loader._sampler is not None or loader.options.weights is not None:
            return "a sampler or weights are for the whole dataset"
        store = loader.dataset.store
        if store.storage.is_remote:
            return "the dataset is in an object store, and a copy on this machine is not as slow"
        if self.profile.bottleneck == STORAGE and os.stat(loader.dataset._path).st_dev != self.folder.stat().st_dev:
            return "the temporary folder is on another disk; give --folder, on the disk of the dataset"
        return None

    def _wanted(self) -> Iterator[_Copy]:
        """What the bottleneck suggests."""
        slow, coded = self.profile.bottleneck, _is_coded(self.loader.dataset.parts[0])
        if slow in (STORAGE, CHECKSUM):
            yield self._compressed("narrow+zstd:9" if coded else "narrow+zstd")
        if slow == DECOMPRESSION:
            yield self._compressed("none", "larger files")
            yield self._compressed("narrow+zstd:-1", "files of another size")
        if slow in FETCHING:
            how = "recordio reshard SRC DST --block-bytes 1MiB"
            yield _Copy("blocks of 1 MiB", how, self._resharded, "samples of a block are mixed with fewer others")
        if slow is not None and slow.startswith(DECODING):
            if self._has_large_pictures():
                how, note = f"recordio convert SRC DST --resize {_SIDE}", "smaller pictures, encoded anew"
                yield _Copy(f"pictures of {_SIDE} pixels", how, self._resized, note, of_pictures=True)
            how = "write a dataset of the decoded pictures, as Image(shape=(None, None, 3))"
            yield _Copy("pictures decoded once", how, self._decoded, "several times the bytes", of_pictures=True)

    def _compressed(self, how: str, note: str = "") -> _Copy:
        command = f"recordio reshard SRC DST --compression {how}"
        return _Copy(f"compression {how}", command, self._resharded, note)

    def _part(self, most: int | None = None) -> ShardDataset:
        """The first samples of the view, so many at most, of about 16 MiB."""
        view: ShardDataset = self.loader.dataset  # type: ignore[assignment]
        ends = np.cumsum(stored_nbytes(view._with(tuple_fields=None)[: 1 << 20]))
        found = int(np.searchsorted(ends, _NBYTES)) + 1
        least = _LEAST_BATCHES * (self.loader.options.batch_size or 1)
        return view[: min(max(found, least), most or len(view))]

    def _base(self, source: ShardDataset) -> DataLoader:
        return self._loader_of(source, self._window(source))

    def _changed(self, make: Callable[..., Path], source: ShardDataset, name: str) -> DataLoader:
        bare = source._with(_transforms=(), _maps=(), _decode=None, tuple_fields=None)
        path = make(bare, self.folder / f"copy-{next(self._numbers)}", name)
        copy = ShardDataset(path, fields=list(source.schema), verify=source._options.verify, decode=source._decode)
        view = copy._with(_transforms=source._transforms, _maps=source._maps, tuple_fields=source.tuple_fields)
        return self._loader_of(view, self._window(source))

    def _window(self, source: ShardDataset) -> int:
        content: int = source.store.content_nbytes * len(source) // max(1, source.store.samples)
        return max(1, min(content // _WINDOWS, self.loader.options.window_bytes or content))

    def _loader_of(self, view: ShardDataset, window: int) -> DataLoader:
        """From a slow disk, past the system's cache: so small a part would soon be there."""
        if self.profile.bottleneck == STORAGE:
            view = read_otherwise(view, "direct")
        persistent = self.loader.options.num_workers > 0
        return rebuilt(self.loader, view, window_bytes=window, window_samples=None, persistent_workers=persistent)

    def _resharded(self, source: ShardDataset, path: Path, name: str) -> Path:
        changed: dict[str, Any] = {"compression": _compression_of(source)}
        if name.startswith("compression"):
            compression = name.rpartition(" ")[2]
            changed["compression"] = None if compression == "none" else compression
        else:
            changed["block_bytes"] = _BLOCK_NBYTES
        reshard(source, path, workers=0, **changed)
        return path

    def _resized(self, source: ShardDataset, path: Path, name: str) -> Path:
        return _rewritten(source, path, dict.fromkeys(_pictures(source), resized), {})

    def _decoded(self, source: ShardDataset, path: Path, name: str) -> Path:
        functions: dict[str, Callable[[bytes], Any]] = {}
        kinds: dict[str, Image] = {}
        for one, kind in _pictures(source).items():
            functions[one] = partial(decode_image, mode=kind.mode)
            kinds[one] = Image(shape=(None, None, _CHANNELS[kind.mode]), optional=kind.optional)
        return _rewritten(source, path, functions, kinds)

    def _has_large_pictures(self) -> bool:
        """Whether the shorter side of the first picture is well above the size that is tried."""
        part = self.loader.dataset.parts[0]
        bare = part._with(_transforms=(), _maps=(), _decode=None, tuple_fields=None)
        first = bare[0]
        headers = [read_header(first[name]) for name in _pictures(bare) if first[name] is not None]
        return any(min(one.width, one.height) > 1.2 * _SIDE for one in headers)


_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


def resized(data: bytes) -> bytes:
    """A picture with a shorter side of 256 pixels."""
    return resize_image(data, _SIDE)


def _pictures(part: ShardDataset) -> dict[str, Image]:
    return {name: kind for name, kind in part.schema.items() if isinstance(kind, Image) and kind.encoded}


def _rewritten(
    source: ShardDataset, path: Path, functions: dict[str, Callable[[bytes], Any]], kinds: dict[str, Image]
) -> Path:
    """The samples with functions applied to the pictures of some fields."""
    schema = type(source.schema)({**source.schema.fields, **kinds})
    with DatasetWriter(path, schema) as writer:
        for sample in source:
            for name, function in functions.items():
                if sample[name] is not None:
                    sample[name] = function(sample[name])
            writer.write(sample)
    return path


def _is_coded(part: ShardDataset) -> bool:
    """Whether any of the first pages is compressed."""
    return not _codecs(part).isdisjoint((Codec.ZSTD, Codec.NARROW_ZSTD))


def _compression_of(part: ShardDataset) -> str | None:
    codecs = _codecs(part)
    if Codec.NARROW_ZSTD in codecs:
        return "narrow+zstd"
    if Codec.NARROW in codecs:
        return "auto" if Codec.ZSTD in codecs else "narrow"
    return "zstd" if Codec.ZSTD in codecs else None


def _codecs(part: ShardDataset) -> set[int]:
    """The codecs of the first pages."""
    blocks = np.arange(min(16, len(part.store.blocks.first) - 1))
    return set(part.store.entries(blocks, part.fields.columns)[0].codec.ravel().tolist())
