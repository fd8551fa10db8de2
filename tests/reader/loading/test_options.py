"""The options of loaders: one default for each, in every signature, and one check."""

from __future__ import annotations

import dataclasses
import inspect
import multiprocessing
from typing import Any

import numpy as np
import pytest
from torch.utils import data

import recordio
import recordio.torch
from recordio import SchemaError
from recordio.reader.loading.options import (
    DEFAULTS,
    OWN_NAMES,
    EpochArguments,
    LoaderArguments,
    LoaderOptions,
    OwnArguments,
    spelled_out,
)

# Every option with its default. Where torch's own default differs it stays torch's in recordio.torch.DataLoader.
TABLE: dict[str, Any] = {
    "batch_size": 1,
    "shuffle": False,
    "sampler": None,
    "batch_sampler": None,
    "num_workers": 0,
    "worker_type": "auto",
    "multiprocessing_context": None,
    "persistent_workers": False,
    "drop_last": False,
    "even_batches": True,
    "collate_fn": None,
    "prefetch_factor": 2,
    "in_order": True,
    "timeout": 0,
    "worker_init_fn": None,
    "on_error": "raise",
    "seed": None,
    "rank": None,
    "world_size": None,
    "ranks": None,
    "window_bytes": None,
    "window_samples": None,
    "unit_bytes": 1,
    "pool_bytes": 0,
    "lanes": 64,
    "lane_affinity": False,
    "weights": None,
    "prefetch_bytes": 512 << 20,
    "batch_tokens": None,
    "sequence_length": None,
    "bucket_by": None,
    "buckets": None,
    "on_overlong": "raise",
    "pad_value": None,
}
TORCHS = {"shuffle": None, "prefetch_factor": None}


def defaults_of(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: one.default for name, one in parameters.items() if name != "dataset"}


def test_each_option_has_this_default() -> None:
    assert DEFAULTS == TABLE


def test_a_loader_shows_every_option_in_the_order_of_the_table() -> None:
    assert list(defaults_of(recordio.DataLoader).items()) == list(TABLE.items())


def test_torchs_loader_shows_torchs_arguments_and_then_ours() -> None:
    found = defaults_of(recordio.torch.DataLoader)
    assert {name: found[name] for name in TABLE} == TABLE | TORCHS
    torchs = list(defaults_of(data.DataLoader))
    assert list(found) == [*torchs, *(name for name in TABLE if name not in torchs)]


def test_an_iterable_shows_the_options_of_an_epoch() -> None:
    names = ["shuffle", *(name for name in TABLE if name in EpochArguments.__optional_keys__)]
    expected = {name: TABLE[name] for name in names} | {"batch_size": None}  # of torch's loader, if it is known
    assert defaults_of(recordio.torch.IterableShards) == expected


def test_loader_arguments_match_loader_options() -> None:
    options = {one.name for one in dataclasses.fields(LoaderOptions) if one.init}
    assert options == set(TABLE)
    assert options == LoaderArguments.__optional_keys__ | {"batch_size", "shuffle"}


def test_own_arguments_are_the_ones_torch_lacks() -> None:
    torchs = defaults_of(data.DataLoader).keys()
    assert set(TABLE) - torchs == OWN_NAMES == OwnArguments.__optional_keys__


def test_spelling_out_changes_the_signature_only() -> None:
    @spelled_out(EpochArguments)
    def function(first: int, seed: int = 7, **options: Any) -> Any:
        return first, seed, options

    parameters = inspect.signature(function).parameters
    assert parameters["seed"].default == 7
    assert parameters["lanes"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "options" not in parameters
    assert function(1, lanes=4) == (1, 7, {"lanes": 4})


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("batch_size", 0, "batch_size"),
        ("batch_size", 2.5, "batch_size"),
        ("num_workers", -1, "num_workers"),
        ("num_workers", True, "num_workers"),
        ("prefetch_factor", 0, "prefetch_factor"),
        ("seed", -1, "seed"),
        ("seed", 1 << 64, "seed"),
        ("on_error", "ignore", "on_error"),
        ("worker_type", "fiber", "worker_type"),
        ("persistent_workers", "no", "persistent_workers"),
        ("even_batches", None, "even_batches"),
        ("in_order", 2, "in_order"),
        ("timeout", -1, "timeout is -1: expected seconds"),
        ("timeout", None, "timeout"),
        ("timeout", float("inf"), "timeout"),
        ("timeout", float("nan"), "timeout"),
        ("timeout", 10**7, "timeout"),
        ("rank", 1, "rank and world_size belong together"),
        ("ranks", "all", "ranks"),
        ("window_bytes", 0, "window_bytes"),
        ("window_bytes", 1 << 63, "window_bytes"),
        ("window_samples", 1 << 63, "window_samples"),
        ("window_samples", 1.5, "window_samples"),
        ("unit_bytes", None, "unit_bytes"),
        ("unit_bytes", 1 << 63, "unit_bytes"),
        ("pool_bytes", -1, "pool_bytes"),
        ("pool_bytes", None, "pool_bytes"),
        ("pool_bytes", 1 << 63, "pool_bytes"),
        ("lanes", (1 << 16) + 1, "lanes"),
        ("lane_affinity", 2, "lane_affinity"),
        ("lane_affinity", None, "lane_affinity"),
    ],
)
def test_a_wrong_value_is_refused(option: str, value: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        LoaderOptions(**{option: value})


def test_a_context_is_for_processes() -> None:
    assert LoaderOptions(multiprocessing_context="spawn").worker_type == "process"
    with pytest.raises(SchemaError, match="for worker_type='process'"):
        LoaderOptions(multiprocessing_context="spawn", worker_type="thread")


def test_ranks_that_are_given_are_not_found() -> None:
    assert LoaderOptions(ranks="auto").ranks == "auto"
    assert LoaderOptions(ranks="auto", rank=0, world_size=1).ranks is None


def test_numpy_integers_become_python_integers() -> None:
    options = LoaderOptions(batch_size=np.int64(8), seed=np.uint8(3), lanes=np.int16(4))  # type: ignore[arg-type]
    assert (options.batch_size, options.seed, options.order.lanes) == (8, 3, 4)
    assert {type(one) for one in (options.batch_size, options.seed, options.order.lanes)} == {int}


def test_derived_options() -> None:
    options = LoaderOptions(num_workers=3, prefetch_factor=4, window_samples=99, lanes=8, shuffle=True)
    assert options.ahead == 12
    assert not options.has_processes
    assert (options.rank, options.world_size) == (0, 1)
    assert (options.order.shuffle, options.order.window, options.order.lanes) == (True, 99, 8)
    context = multiprocessing.get_context("spawn")
    assert LoaderOptions(num_workers=1, worker_type="process", multiprocessing_context=context).has_processes
    assert not LoaderOptions(num_workers=0, worker_type="process").has_processes
