"""All samples of a dataset or a view as tensors, for data that fits into memory."""

from __future__ import annotations

from typing import Any

from recordio.errors import SchemaError
from recordio.reader.columns import concatenate
from recordio.reader.stored import stored_chunks, stored_columns
from recordio.reader.torch.tensors import to_tensors
from recordio.reader.view import DatasetView


def tensors(dataset: DatasetView) -> dict[str, Any]:
    """The numbers of all samples, as stored: a tensor (n, *shape) for each field, in the order of the view.

        table = recordio.torch.tensors(recordio.ShardDataset("digits", fields=["pixels", "label"]))

    Of an optional field there is NAME, with NaN or an extreme value where one is missing, and NAME_mask, bool (n,),
    true there, as in a batch.

    Raises SchemaError for fields that are no numbers of one shape, which it names, and for a view with transforms or
    maps; CorruptError, StorageError.
    """
    others = [f"{name} ({kind})" for name, kind in dataset.schema.items() if kind.row_nbytes is None]
    if others:
        raise SchemaError(f"no tensors hold {', '.join(others)}: leave them out with fields=")
    chunks = list(stored_chunks(dataset)) or [stored_columns(dataset, dataset.checked_indices([]))]
    return to_tensors({name: concatenate([one[name] for one in chunks]) for name in dataset.schema})  # type: ignore[no-any-return]
