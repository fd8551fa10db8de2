"""Views of tuples: the fields named, in that order, wherever samples and batches come from."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import ConcatDataset, DataLoader, DatasetWriter, Mixture, Scalar, Schema, SchemaError, ShardDataset
from recordio.reader.loading import together
from recordio.reader.page_table import PageTable

N = 60


def write(folder: Path, begin: int, **options: Any) -> ShardDataset:
    with DatasetWriter(folder, block_bytes=200, shard_samples=25, **options) as writer:
        for n in range(begin, begin + N):
            writer.write({"image": np.full((2, 3), n, np.uint8), "label": n, "text": f"sample {n}", "more": -n})
    return ShardDataset(folder)


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write(tmp_path_factory.mktemp("tuples") / "a", 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write(tmp_path_factory.mktemp("tuples") / "b", N)


@pytest.fixture(params=["single", "concatenated", "mixed"])
def whole(request: pytest.FixtureRequest, ds: ShardDataset, other: ShardDataset) -> Any:
    """The three kinds of dataset."""
    made: dict[str, Callable[[], Any]] = {
        "single": lambda: ds,
        "concatenated": lambda: ds + other,
        "mixed": lambda: Mixture([(ds, 2), (other, 1)]),
    }
    return made[request.param]()


def add_one(sample: dict[str, Any]) -> dict[str, Any]:
    return {"label": sample["label"] + 1, "text": sample["text"].upper(), "unused": None}


def double(label: Any) -> Any:
    return 2 * label


def swapped(sample: tuple[Any, Any]) -> dict[str, Any]:
    text, label = sample
    return {"is_tuple": type(sample) is tuple, "label": label, "text": text}


def fails_at_seven(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["label"] % 10 == 7:
        raise ValueError("seven")
    return sample


def pairs(samples: list[Any]) -> list[tuple[str, int]]:
    assert all(type(one) is tuple for one in samples)
    return [(text, int(label)) for text, label in samples]


def as_pairs(batch: Any) -> list[tuple[str, int]]:
    """The samples of a batch of ("text", "label")."""
    assert type(batch) is tuple
    text, label = batch
    assert isinstance(label, np.ndarray)
    return list(zip(text, label.tolist(), strict=True))


def expected(view: Any) -> list[tuple[str, int]]:
    """("text", "label") of each sample of a view of dicts."""
    return [(sample["text"], int(sample["label"])) for sample in view]


LOADERS: dict[str, dict[str, Any]] = {
    "inline": {},
    "threads": {"num_workers": 2},
    "fork": {"num_workers": 2, "worker_type": "process", "multiprocessing_context": "fork"},
    "spawn": {"num_workers": 1, "worker_type": "process", "multiprocessing_context": "spawn"},
    "skip": {"on_error": "skip"},
    "sampler": {"sampler": range(N - 1, -1, -1)},
}
every_loader = pytest.mark.parametrize("options", LOADERS.values(), ids=LOADERS)


class TestSamples:
    def test_a_sample_is_a_tuple_of_the_fields_in_their_order(self, whole: Any) -> None:
        view = whole.tuples("text", "label")
        assert pairs([view[k] for k in range(len(view))]) == expected(whole)
        assert pairs(list(view)) == expected(whole)
        if not isinstance(whole, Mixture):  # whose epoch leaves samples out, and which refuses other people's loaders
            assert pairs(view.__getitems__([3, -1, 3])) == [expected(whole)[k] for k in (3, -1, 3)]
        assert view.tuple_fields == ("text", "label")

    def test_take_gives_a_tuple_of_columns(self, whole: Any) -> None:
        assert as_pairs(whole.tuples("text", "label").take([5, 0])) == [expected(whole)[k] for k in (5, 0)]
        image, label = whole.tuples("image", "label").take([4])
        assert (image.shape, image.dtype, label.tolist()) == ((1, 2, 3), np.uint8, [whole[4]["label"]])

    def test_one_field_gives_tuples_of_one(self, whole: Any) -> None:
        assert whole.tuples("text")[0] == (whole[0]["text"],)
        assert whole.tuples("text").take([0]) == ([whole[0]["text"]],)

    def test_no_samples_give_a_column_for_each_field(self, whole: Any) -> None:
        for view in (whole.tuples("text", "label"), whole.map(add_one).tuples("text", "label")):
            assert [len(column) for column in view.take([])] == [0, 0]

    def test_only_these_fields_are_read(self, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        read: set[str] = set()
        take = PageTable.take
        monkeypatch.setattr(
            PageTable, "take", lambda self, *at, **how: read.update(self.columns) or take(self, *at, **how)
        )
        view = whole.tuples("text", "label")
        assert list(view.schema) == ["text", "label"]
        list(DataLoader(view, 16))
        view.take([1])
        assert read == {"text", "label"}

    def test_a_view_survives_pickling(self, whole: Any) -> None:
        for view in (whole.tuples("text", "label"), whole.map(add_one).tuples("text", "label")):
            assert list(pickle.loads(pickle.dumps(view))) == list(view)

    def test_its_repr_says_what_it_gives(self, ds: ShardDataset) -> None:
        assert "tuples of text, label" in repr(ds.tuples("text", "label"))
        assert "fields image, label, text, more" in repr(ds)


class TestBatches:
    @every_loader
    def test_batches_are_tuples_of_columns(self, whole: Any, options: dict[str, Any]) -> None:
        view = whole.tuples("text", "label")
        shuffle = {} if "sampler" in options else {"shuffle": True}
        found = [as_pairs(batch) for batch in DataLoader(view, 16, **shuffle, seed=3, **options)]
        same = DataLoader(whole, 16, **shuffle, seed=3, **options)
        assert found == [list(zip(batch["text"], batch["label"].tolist(), strict=True)) for batch in same]

    @every_loader
    def test_so_are_those_of_mapped_samples(self, whole: Any, options: dict[str, Any]) -> None:
        found = [
            pair
            for batch in DataLoader(whole.map(add_one).tuples("text", "label"), 16, **options)
            for pair in as_pairs(batch)
        ]
        order = options.get("sampler", range(len(whole)))
        assert found == [(whole[k]["text"].upper(), whole[k]["label"] + 1) for k in order]

    def test_single_samples_are_tuples(self, whole: Any) -> None:
        assert pairs(list(DataLoader(whole.tuples("text", "label"), None))) == expected(whole)

    def test_a_collate_fn_gets_tuples(self, whole: Any) -> None:
        for view in (whole.tuples("text", "label"), whole.map(dict).tuples("text", "label")):
            batches = list(DataLoader(view, 16, collate_fn=pairs))
            assert [pair for batch in batches for pair in batch] == expected(whole)

    def test_failures_are_skipped(self, whole: Any) -> None:
        loader = DataLoader(whole.map(fails_at_seven).tuples("text", "label"), 16, on_error="skip")
        found = [pair for batch in loader for pair in as_pairs(batch)]
        assert found == [pair for pair in expected(whole) if pair[1] % 10 != 7]
        assert loader.stats.skipped == len(whole) - len(found) > 0

    def test_batches_made_together_are_tuples_too(
        self, ds: ShardDataset, other: ShardDataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(together, "_LEAST", 0)
        both = ds.tuples("image", "label") + other.tuples("image", "label")
        images, labels = zip(*DataLoader(both, 4), strict=True)
        assert np.concatenate(labels).tolist() == list(range(2 * N))
        assert (np.concatenate(images)[:, 0, 0] == np.arange(2 * N)).all()

    def test_an_epoch_resumes(self, whole: Any) -> None:
        view = whole.tuples("text", "label")
        loader, again = (DataLoader(view, 8, True) for _ in range(2))
        epoch = iter(loader)
        next(epoch)
        again.load_state_dict(loader.state_dict())
        assert list(map(as_pairs, again)) == list(map(as_pairs, epoch))


class TestOtherSteps:
    def test_transforms_before_and_after_it_apply(self, whole: Any) -> None:
        for view in (
            whole.transform(label=double, more=double).tuples("text", "label"),
            whole.tuples("text", "label").transform(label=double),
        ):
            wanted = [(text, 2 * label) for text, label in expected(whole)]
            assert pairs(list(view)) == wanted
            assert [pair for batch in DataLoader(view, 16) for pair in as_pairs(batch)] == wanted

    def test_a_map_after_it_gets_the_tuple(self, whole: Any) -> None:
        for view in (whole.tuples("text", "label"), whole.map(add_one).tuples("text", "label")):
            mapped = view.map(swapped)
            assert mapped.tuple_fields is None
            assert all(batch["is_tuple"].all() for batch in DataLoader(mapped, 16))
            assert expected(mapped) == list(view)

    def test_views_of_it_keep_the_tuples(self, whole: Any) -> None:
        view, wanted = whole.tuples("text", "label"), expected(whole)
        assert pairs(list(view[3:9:2])) == wanted[3:9:2]
        assert pairs(list(view.select([7, 2]))) == [wanted[7], wanted[2]]
        assert pairs(list(view.filter(lambda c: c["label"] % 2 == 0))) == [one for one in wanted if one[1] % 2 == 0]
        assert pairs(list(view.filter(more=-5))) == [one for one in wanted if one[1] == 5]
        assert list(map(len, view.split([0.5, 0.5]))) == list(map(len, whole.split([0.5, 0.5])))
        assert view.column("label").tolist() == [label for _, label in wanted]
        assert view.column("more").tolist() == [-label for _, label in wanted]

    def test_it_applies_to_views(self, whole: Any) -> None:
        wanted = expected(whole)
        assert pairs(list(whole[5:8].tuples("text", "label"))) == wanted[5:8]
        assert pairs(list(whole.filter(label=[4, 6]).tuples("text", "label"))) == [
            wanted[k] for k in range(len(wanted)) if wanted[k][1] in (4, 6)
        ]

    def test_the_fields_can_be_named_anew(self, whole: Any) -> None:
        view = whole.tuples("text", "label").tuples("label")
        assert list(view) == [(label,) for _, label in expected(whole)]


class TestRefusals:
    @pytest.mark.parametrize("names", [(), (["image", "label"],), (1,)])
    def test_names_are_given_one_by_one(self, whole: Any, names: Any) -> None:
        with pytest.raises(SchemaError, match=r'tuples\("image", "label"\)'):
            whole.tuples(*names)

    def test_a_name_is_given_once(self, whole: Any) -> None:
        with pytest.raises(SchemaError, match="twice"):
            whole.tuples("label", "label")

    def test_a_name_that_is_not_there_is_refused_with_those_that_are(self, whole: Any) -> None:
        with pytest.raises(SchemaError, match="no field named 'labels'; there are image, label, text, more"):
            whole.tuples("image", "labels")

    def test_a_key_that_a_map_does_not_return_is_refused(self, whole: Any) -> None:
        view = whole.map(add_one).tuples("image", "label")
        for read in (lambda: view[0], lambda: view.take([0]), lambda: next(iter(DataLoader(view)))):
            with pytest.raises(SchemaError, match=r"no key named 'image' .* there are label, text, unused"):
                read()

    def test_a_map_that_returns_no_dict_is_refused(self, whole: Any) -> None:
        with pytest.raises(SchemaError, match=r"tuples after a map .* it returned int 3"):
            whole.map(lambda sample: 3).tuples("label")[0]

    def test_parts_have_the_same_tuples(self, ds: ShardDataset, other: ShardDataset) -> None:
        for a, b in (
            (ds.tuples("text", "label"), other.tuples("label", "text")),
            (ds.tuples("text", "label"), other),
            (ds.tuples("text", "label"), other.map(add_one)),
        ):
            with pytest.raises(SchemaError, match="differ in their tuples"):
                ConcatDataset([a, b])

    def test_parts_may_come_to_the_same_tuples_in_different_ways(self, ds: ShardDataset, other: ShardDataset) -> None:
        both = ds.tuples("text", "label") + other.map(add_one).tuples("text", "label")
        wanted = expected(ds) + [(text.upper(), label + 1) for text, label in expected(other)]
        assert pairs(list(both)) == wanted
        assert [pair for batch in DataLoader(both, 16) for pair in as_pairs(batch)] == wanted


def test_missing_values_are_as_in_dicts(tmp_path: Path) -> None:
    schema = Schema({"x": Scalar("int64", optional=True), "y": Scalar("int64")})
    with DatasetWriter(tmp_path, schema) as writer:
        writer.write_batch({"x": np.ma.array([1, 2], mask=[False, True]), "y": np.arange(2)})
    x, _ = next(iter(DataLoader(ShardDataset(tmp_path).tuples("x", "y"), 2)))
    assert isinstance(x, np.ma.MaskedArray)
    assert x.mask.tolist() == [False, True]
