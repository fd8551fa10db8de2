"""A dataset or a view as objects of other libraries: methods of every view. A library is imported when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from recordio.packages import optional

if TYPE_CHECKING:
    from recordio.reader.view import DatasetView


class Exchange:
    """Methods of a DatasetView that give all of its samples at once, as stored, in its order.

    All of them raise SchemaError for a view with transforms or maps, whose results are not stored.
    """

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
