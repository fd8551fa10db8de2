"""Objects for a process that is being started."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from recordio import WorkerError
from recordio.pickling import DeferredPickle
from tests.reader.workers import makers

LARGE = np.arange(1 << 15)


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
            pickle.dumps(DeferredPickle(value, advice="or use a thread"))


def test_what_holds_an_open_file_is_refused_by_name() -> None:
    with open(__file__) as file:
        for value, name in ((Holder(file), "Holder"), (Holder(file).call, "Holder"), (file, "TextIOWrapper")):
            with pytest.raises(WorkerError, match=rf"cannot be given {name}: .*TextIOWrapper.* first used, .*thread"):
                pickle.dumps(DeferredPickle(value, advice="or use a thread"))


def test_a_refusal_is_told_before_anything_is_sent() -> None:
    assert DeferredPickle([LARGE, len]).refusal() is None
    refusal = DeferredPickle(lambda: None, advice="or use a thread").refusal()
    assert isinstance(refusal, WorkerError)
    assert "cannot import" in str(refusal)
