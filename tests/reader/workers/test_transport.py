"""How objects and errors get from one process to another."""

from __future__ import annotations

import io
import pickle
from typing import Any

import pytest
import torch

from recordio import CorruptError, WorkerError
from recordio.reader.workers.transport import Failure, TensorPickler
from tests.reader.workers import makers


def failure(error: Exception) -> Exception:
    """The error that another process raises for it."""
    try:
        raise error
    except Exception as caught:  # noqa: BLE001
        found: Failure = pickle.loads(pickle.dumps(Failure.of(caught, "worker 3")))
        return found.error()


def test_one_of_our_errors_arrives_with_its_place_and_the_workers_traceback() -> None:
    error = CorruptError("page checksum mismatch").at(file="shard-00003.rio", block=17)
    found = failure(error)
    assert (type(found), str(found)) == (CorruptError, str(error))
    assert isinstance(found, CorruptError)
    assert found.place == error.place
    (note,) = found.__notes__
    assert note.startswith("in worker 3:\nTraceback")
    assert "raise error" in note


def test_any_other_error_arrives_with_its_notes_and_the_workers_traceback() -> None:
    error = KeyError("colour")
    error.add_note("sample 7")
    found = failure(error)
    assert (type(found), found.args) == (KeyError, ("colour",))
    sample, note = found.__notes__
    assert sample == "sample 7"
    assert note.startswith("in worker 3:\nTraceback")
    assert "raise error" in note


@pytest.mark.parametrize("error", [makers.Unpicklable("odd"), makers.Unloadable(1, 2), makers.Noteless("odd")])
def test_an_error_that_cannot_be_pickled_is_described_by_a_worker_error(error: Exception) -> None:
    found = failure(error)
    assert type(found) is WorkerError
    assert f"{type(error).__name__}: {error}" in str(found)
    assert found.__cause__ is None


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    TensorPickler(file, 5).dump(value)
    return file.getvalue()


@pytest.mark.parametrize("tensor", [torch.arange(6).reshape(2, 3), torch.ones(3, requires_grad=True)])
def test_tensors_come_back_as_they_were(tensor: torch.Tensor) -> None:
    found = pickle.loads(pickled(tensor))
    assert torch.equal(found, tensor)
    assert found.requires_grad == tensor.requires_grad


def test_a_plain_tensor_is_pickled_as_an_array() -> None:
    """torch's own way copies it several times."""
    assert b"_rebuild_tensor" not in pickled(torch.arange(3))
    assert b"_rebuild_tensor" in pickled(torch.ones(3, requires_grad=True))
