"""Pictures of batches on their way into a dataset: stored as they are, and decoded by threads where that is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from recordio.errors import DecodeError
from recordio.format.fields import Field
from recordio.format.image_field import image_format
from recordio.format.schema import Columns
from recordio.images.decode import decode_image
from recordio.images.header import Header
from recordio.images.prepare import PictureKind, Stored
from recordio.images.traits import upright_jpeg
from recordio.process_guard import ThreadPool
from recordio.statistics.numbers import PixelMoments

Picture = tuple[str, Field, PictureKind]  # of a field: its name, the field, the treatment
_RUN = 8  # pictures that a thread decodes at a time: handing over each costs a tenth of its decoding
_AHEAD = 2  # batches being decoded while another is written


class Looked(NamedTuple):
    """A run of pictures of a field: what is stored, and what was seen of the files, for notes and statistics."""

    values: Sequence[Any]
    remarks: Sequence[str]
    headers: Sequence[Header]
    moments: PixelMoments | None


class PictureColumns:
    """Looks at the pictures of batches, in order.

    Args:
        pictures: the fields of pictures.
        named: see Source.named.
        decodes: whether each picture is decoded; otherwise one that cannot stay as it is raises DecodeError.
        stored: what is stored of a picture, from its position, the Picture and the file's bytes.
        threads: that decode.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        named: Mapping[str, str],
        decodes: bool,
        stored: Callable[[int, str, Field, PictureKind, bytes], Stored],
        threads: int,
    ) -> None:
        self._pictures = pictures
        self._named = named
        self._decodes = decodes
        self._stored = stored
        self._threads = threads if decodes else 1

    def of(self, batches: Iterator[Columns]) -> Iterator[tuple[Columns, list[list[Looked]]]]:
        """Each batch, with the runs of each field of pictures. Raises DecodeError."""
        if self._threads < 2:
            yield from ((batch, [[run() for run in runs] for runs in every]) for batch, every in self._runs(batches))
            return
        waiting: deque[tuple[Columns, list[list[Future[Looked]]]]] = deque()
        pool = ThreadPool(self._threads, "recordio-convert")
        try:
            for batch, every in self._runs(batches):
                waiting.append((batch, [list(map(pool.submit, runs)) for runs in every]))
                if len(waiting) > _AHEAD:
                    yield _done(*waiting.popleft())
            while waiting:
                yield _done(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _runs(self, batches: Iterator[Columns]) -> Iterator[tuple[Columns, list[list[Callable[[], Looked]]]]]:
        done = 0
        for batch in batches:
            count = len(next(iter(batch.values())))
            size = _RUN if self._decodes else count
            starts = range(0, count, size)
            yield (
                batch,
                [
                    [partial(self._look, done + k, one, batch[one[0]][k : k + size]) for k in starts]
                    for one in self._pictures
                ],
            )
            done += count

    def _look(self, start: int, picture: Picture, files: Sequence[bytes | None]) -> Looked:
        name, field, kind = picture
        if self._named.get(name) == "jpeg":
            headers = [header for data in files if data is not None and (header := upright_jpeg(data)) is not None]
            if len(headers) == len(files):  # as most are: there is nothing to be said of any, nor to be done
                return Looked(files, (), headers, self._moments(field, files, headers) if self._decodes else None)
        found = [
            None if data is None else self._as_it_is(k, name, field, kind, data) for k, data in enumerate(files, start)
        ]
        seen = [stored for stored in found if stored is not None]
        decoded = [PixelMoments.of(stored.pixels) for stored in seen if stored.pixels is not None]
        return Looked(
            [None if stored is None else stored.value for stored in found],
            [remark for stored in seen for remark in stored.remarks],
            [stored.header for stored in seen if stored.header is not None],
            _total(decoded),
        )

    def _as_it_is(self, position: int, name: str, field: Field, kind: PictureKind, data: bytes) -> Stored:
        if not self._decodes and image_format(data[:16]) is None:
            raise DecodeError("a file of another format has to be decoded")
        return self._stored(position, name, field, kind, data)

    def _moments(self, field: Any, files: Sequence[Any], headers: Sequence[Header]) -> PixelMoments | None:
        every = zip(files, headers, strict=True)
        return _total([PixelMoments.of(decode_image(data, field.mode, header)) for data, header in every])


def _total(moments: Sequence[PixelMoments]) -> PixelMoments | None:
    if not moments:
        return None
    total, *rest = moments
    for one in rest:
        total = total.plus(one)
    return total


def _done(batch: Columns, runs: list[list[Future[Looked]]]) -> tuple[Columns, list[list[Looked]]]:
    return batch, [[run.result() for run in field] for field in runs]
