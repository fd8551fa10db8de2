"""Converts an iterable: read once, in this process, in bounded memory. It cannot go on where it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from recordio.errors import DatasetError, SchemaError, SourceError
from recordio.format.manifest import Manifest
from recordio.writer.blocks import BlockBuilder
from recordio.writer.convert.first_samples import unlike_the_first
from recordio.writer.convert.job import Outcome
from recordio.writer.convert.mapped import Streamed
from recordio.writer.convert.plan import ConvertOptions, check_pictures
from recordio.writer.convert.progress import TotalProgress
from recordio.writer.convert.publication import Publication
from recordio.writer.convert.record import conversion_record
from recordio.writer.convert.units import SKIPPABLE, Prepared
from recordio.writer.destination import refuse_parity
from recordio.writer.metadata import plain_metadata, require_fit
from recordio.writer.shard_sink import ShardSink
from recordio.writer.sources.tokens.tokenized import tokenized

_BEGINS_ANEW = (
    "an iterable is read once, in this process: a run that stops begins anew; give a list, or a dataset with [i]"
)


class StreamJob:
    """One iterable on its way to one dataset; used as a ConvertJob is."""

    def __init__(self, path: str, items: Iterator[Any], publication: Publication, options: ConvertOptions) -> None:
        _refuse_options(options)
        refuse_parity(publication, options.write.new_parity)
        assert options.maker is not None
        self.source_path = path
        self.publication = publication
        self._options = options
        if publication.read(damaged=True) is not None and not options.overwrite:
            raise DatasetError(
                "there is a dataset here, and whether it is of the same samples cannot be told; overwrite=True "
                "(--overwrite) makes it anew"
            ).at(file=publication.location)
        skip = options.on_error == "skip"
        made = Streamed(islice(items, options.limit), options.maker, options.schema, skip)
        self.source = tokenized(made, options.text)
        check_pictures(self.source, options)
        require_fit(self.source.schema, plain_metadata(self.source.metadata))
        self.inputs = None
        self.notes = (*self.source.notes, _BEGINS_ANEW)

    def run(self, progress: TotalProgress) -> Outcome:
        """Reads the iterable to its end and publishes the dataset. On an error nothing is published."""
        there = self.publication
        with there.held():
            missing, numbers = there.read(damaged=True) is None, there.numbers()
            if numbers and missing and not self._options.overwrite:
                raise DatasetError("there are shards here but no manifest; move them away").at(file=there.location)
            write, schema = self._options.write, self.source.schema
            builder = BlockBuilder(schema, write.block_target(schema))
            first = 1 + max(numbers, default=-1)
            metadata = self.source.metadata
            sink = ShardSink(there.folder, builder, write, metadata=metadata, dataset_id=None, first=first)
            sink.on_finished = there.take
            try:
                outcome = self._write(sink, progress)
            finally:
                sink.discard()
        return outcome

    def _write(self, sink: ShardSink, progress: TotalProgress) -> Outcome:
        strict = self._options.on_error == "skip"  # a sample is packed before it is taken, and may be left out
        samples = Prepared(self.source, self._options, (), progress.counted, strict, measures=sink.measures)
        written = 0
        try:
            for sample in samples:
                written += 1
                if sink.add(sample):
                    sink.write_full_blocks()
        except SKIPPABLE as error:
            if isinstance(error, SchemaError):
                unlike_the_first(error, self.source)
            raise error.at(file=samples.key)
        if not written:
            raise SourceError("no input gave a sample")
        sink.finish()
        record = conversion_record(self._options, samples.skipped, self.source.notes, (), samples.dropped)
        statistics = sink.measures.statistics().to_json()
        metadata = {**self.source.metadata, **record}
        shards, parity = list(sink.finished.values()), self._options.write.new_parity
        manifest = Manifest(sink.identify(), sink.schema, metadata, shards, statistics, parity)
        self.publication.remember(None)
        manifest = self.publication.publish(manifest, sink.finished)
        sink.finished = {}
        skipped = tuple(samples.skipped)
        return Outcome(manifest, skipped=skipped, dropped=samples.dropped, made=written, notes=self.notes)


def _refuse_options(options: ConvertOptions) -> None:
    """Raises SchemaError for what needs inputs by number."""
    way = "an iterable is read once, in this process: give a list, or a dataset with len() and [i], for"
    if options.shuffle is not None:
        raise SchemaError(f"{way} shuffle")
    if options.workers is not None and options.workers > 1:
        raise SchemaError(f"{way} workers={options.workers}")
    if options.engine != "local":
        raise SchemaError(f"{way} engine={options.engine!r}")
    if options.text.sequence_length is not None:
        raise SchemaError(f"{way} sequence_length")
    if options.keep_names:
        raise SchemaError("keep_names is for files; let fn give the name of an input as a field")
