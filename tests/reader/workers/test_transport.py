"""How objects and errors get from one process to another."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from recordio import CorruptError, WorkerError
from recordio.reader.workers.transport import DeferredPickle, Failure, TensorPickler
from tests.reader.workers import makers

LARGE = np.arange(1 << 15)


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


def test_deferred_objects_are_pickled_only_when_they_are_sent() -> None:
    value = object()
    assert DeferredPickle(value).open() is value
    again = pickle.loads(pickle.dumps(DeferredPickle([LARGE, "x"])))
    assert again.objects is None
    assert np.array_equal(again.open()[0], LARGE)


def test_deferred_objects_raise_when_they_are_opened() -> None:
    again = pickle.loads(pickle.dumps(DeferredPickle(makers.Stillborn())))
    with pytest.raises(LookupError, match="not for other processes"):
        again.open()


def test_deferred_objects_that_the_main_module_does_not_define_do_not_import_it() -> None:
    deferred = DeferredPickle(None, pickle.dumps([1, 2]), main={"init_main_from_name": "no.such.module"})
    assert deferred.open() == [1, 2]
    assert deferred.main


class Holder:
    """A map that has something as an attribute."""

    def __init__(self, held: Any) -> None:
        self.array, self.held = LARGE, held

    def call(self, sample: Any) -> Any:
        return sample


def test_maps_of_local_classes_are_refused_by_name() -> None:
    class Local(Holder):
        pass

    for value in (Local(1), Local(1).call, Holder(Local(1)), Local):
        with pytest.raises(WorkerError, match=r"cannot import .*<locals>\.Local: it was defined inside .*thread"):
            pickle.dumps(DeferredPickle(value))


def test_what_holds_an_open_file_is_refused_by_name() -> None:
    with open(__file__) as file:
        for value, name in ((Holder(file), "Holder"), (Holder(file).call, "Holder"), (file, "TextIOWrapper")):
            with pytest.raises(WorkerError, match=rf"cannot be given {name}: .*TextIOWrapper.* first used, .*thread"):
                pickle.dumps(DeferredPickle(value))


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
