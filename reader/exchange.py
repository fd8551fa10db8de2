"""A dataset or a view in the forms of other libraries: methods of every view. A library is imported when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

from recordio.packages import optional

if TYPE_CHECKING:
    from recordio.reader.view import DatasetView


class Exchange:
    """Methods of a DatasetView. Those named `to_` give all of its samples at once, as stored, in its order.

    They raise SchemaError for a view with transforms or maps, whose results are not stored.

    Attributes:
        is_ragged: whether this is a view of `ragged`.
    """

    is_ragged: bool = False

    def ragged(self) -> Self:
        """A view whose batches have no object for each value: text, bytes, encoded pictures and arrays whose shapes
        differ come as `Ragged` columns, values and offsets, in place of lists.

            batch = next(iter(DataLoader(ds.ragged(), batch_size=256)))
            batch["text"].values, batch["text"].offsets      pyarrow.table(batch)      for jpeg in batch["image"]: ...

        So it is in what a loader gives, `take` and `column`. Lists stay: of objects; of fields with a transform, and
        pictures unless the dataset has `decode=None`. Samples are the same as ever: `ds[i]`, and what maps and a
        `collate_fn` get.
        """
        return self._ragged()

    def _ragged(self) -> Self:
        raise NotImplementedError

    def to_arrow(self) -> Any:
        """A pyarrow.Table, in chunks of some 64 MiB.

        Numbers, text and bytes are Arrow's own, arrays are lists of fixed or free size, encoded pictures are their
        bytes, objects are JSON text; a missing value is null. Numbers are copied once, from the dataset to NumPy.

        Raises SchemaError for complex numbers and arrays without elements, MissingPackageError without pyarrow.
        """
        from recordio.reader.arrow import dataset_table

        return dataset_table(cast("DatasetView", self))

    def to_polars(self) -> Any:
        """A polars.DataFrame, of the columns of `to_arrow`. Raises as it does."""
        polars = optional("polars", "Polars frames", "polars")
        return polars.from_arrow(self.to_arrow())

    def to_hf(self) -> Any:
        """A datasets.Dataset of Hugging Face. Raises as `to_arrow` does.

        Its features are the fields: encoded pictures are `Image`, and labels with classes are `ClassLabel`.
        """
        from recordio.reader.hugging_face import hf_dataset

        return hf_dataset(cast("DatasetView", self))
