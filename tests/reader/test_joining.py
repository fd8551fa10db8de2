"""Combined datasets: every operation matches the same operation on a list of their samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import (
    Array,
    ConcatDataset,
    CorruptError,
    DataLoader,
    DatasetWriter,
    Image,
    Mixture,
    Object,
    Scalar,
    SchemaError,
    ShardDataset,
    Text,
)
from tests.effort import examples
from tests.epochs import write_numbers
from tests.photos import encode, photo

SIZES = (230, 57, 111)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[ShardDataset]:
    home = tmp_path_factory.mktemp("combined")
    return [write_numbers(home / str(k), range(1000 * k, 1000 * k + n)) for k, n in enumerate(SIZES)]


@pytest.fixture(scope="module", params=["concat", "mixture", "view"])
def whole(request: pytest.FixtureRequest, parts: list[ShardDataset]) -> Any:
    if request.param == "concat":
        return parts[0] + parts[1][5:] + parts[2][::-1]
    if request.param == "mixture":
        return Mixture([(parts[0] + parts[1], 2), (parts[2], 1)], "all_exhausted")
    both = parts[0] + parts[2]
    return both.select(np.random.default_rng(0).integers(0, len(both), 150))


def numbers(view: Any) -> list[int]:
    return [int(sample["number"]) for sample in view]


class TestOperations:
    def test_indexing_follows_the_unshuffled_epoch(self, whole: Any) -> None:
        want = numbers(whole)
        assert len(whole) == len(want)
        assert [n for batch in DataLoader(whole, 16) for n in batch["number"].tolist()] == want
        assert [int(whole[k]["number"]) for k in range(-3, 3)] == [*want[-3:], *want[:3]]
        assert whole[2]["text"] == str(want[2])
        assert [s["number"] for s in whole.__getitems__([5, -1, 5])] == [want[5], want[-1], want[5]]
        for wrong in (len(want), -len(want) - 1):
            with pytest.raises(IndexError, match="of a dataset of"):
                whole[wrong]

    @examples(30)
    @given(st.data())
    def test_slices_and_selections_match_the_list(self, whole: Any, data: st.DataObject) -> None:
        want, view = numbers(whole), whole
        for _ in range(data.draw(st.integers(1, 3))):
            if data.draw(st.booleans()):
                index = data.draw(st.slices(len(want)))
                want, view = want[index], view[index]
            elif want:
                chosen = data.draw(st.lists(st.integers(-len(want), len(want) - 1), max_size=30))
                want, view = [want[k] for k in chosen], view.select(chosen)
        assert (len(view), numbers(view)) == (len(want), want)
        assert view.column("number").tolist() == want
        assert [n for batch in DataLoader(view, 7) for n in batch["number"].tolist()] == want
        shuffled = [n for batch in DataLoader(view, 7, shuffle=True) for n in batch["number"].tolist()]
        assert sorted(shuffled) == sorted(want)

    def test_take_returns_columns_in_the_requested_order(self, whole: Any) -> None:
        want, asked = numbers(whole), [9, 0, -1, 9, 50]
        columns = whole.take(asked)
        assert columns["number"].tolist() == [want[k] for k in asked]
        assert columns["text"] == [str(want[k]) for k in asked]
        assert {name: len(column) for name, column in whole.take([]).items()} == {"number": 0, "text": 0}

    def test_filter_split_map_and_transform(self, whole: Any) -> None:
        want = numbers(whole)
        assert numbers(whole.filter(number=[want[3], want[40]])) == [n for n in want if n in (want[3], want[40])]
        assert numbers(whole.filter(lambda c: c["number"] % 2 == 0, fields=["number"])) == [
            n for n in want if n % 2 == 0
        ]
        first, second = whole.split([0.7, 0.3], seed=4)
        assert len(first) + len(second) == len(want)
        assert sorted(numbers(first) + numbers(second)) == sorted(want)
        doubled = whole.map(lambda sample: {"number": sample["number"] * 2})
        assert numbers(doubled) == [2 * n for n in want]
        assert doubled.take([1, 2])["number"].tolist() == [2 * want[1], 2 * want[2]]
        assert whole.transform(text=len).take(range(5))["text"].tolist() == [len(str(n)) for n in want[:5]]
        assert whole.map(lambda sample: sample).column("number").tolist() == want

    def test_samplers_deliver_the_samples_at_their_indices(self, whole: Any) -> None:
        want, chosen = numbers(whole), [3, 149, 0, 3, 77]
        for workers in ({}, {"num_workers": 2}, {"num_workers": 1, "worker_type": "process"}):
            found = [batch["number"].tolist() for batch in DataLoader(whole, 2, sampler=chosen, **workers)]
            assert found == [[want[k] for k in batch] for batch in ([3, 149], [0, 3], [77])]

    def test_loader_resumes_a_view(self, whole: Any) -> None:
        view = whole.select(np.random.default_rng(1).permutation(len(whole))[:100])
        for shuffle in (False, True):
            first, again = DataLoader(view, 8, shuffle), DataLoader(view, 8, shuffle)
            batches = [batch["number"].tolist() for batch in first]
            halfway = DataLoader(view, 8, shuffle)
            for _ in zip(range(5), halfway, strict=False):
                pass
            again.load_state_dict(halfway.state_dict())
            assert [batch["number"].tolist() for batch in again] == batches[5:]


class TestCombining:
    def test_sum_is_addition(self, parts: list[ShardDataset]) -> None:
        assert numbers(sum(parts)) == numbers(parts[0] + parts[1] + parts[2])
        assert sum(parts[:1]) is parts[0]

    def test_weights_draw_from_all_datasets(self, parts: list[ShardDataset]) -> None:
        both = parts[0] + parts[1]
        weights = np.zeros(len(both))
        weights[[3, 240]] = 1
        found = [n for batch in DataLoader(both, 10, shuffle=True, weights=weights) for n in batch["number"].tolist()]
        assert len(found) == len(both)
        assert {n: found.count(n) // 100 for n in found} == {3: 1, 1010: 1}
        with pytest.raises(SchemaError, match="weights of its own"):
            DataLoader(Mixture([(parts[0], 1)]), 4, shuffle=True, weights=np.ones(230))

    def test_parts_of_a_mixture_share_its_weight_by_their_samples(self, parts: list[ShardDataset]) -> None:
        nested = Mixture([(parts[0] + parts[1], 3), (parts[2], 1)])
        flat = Mixture([(parts[0], 3 * 230 / 287), (parts[1], 3 * 57 / 287), (parts[2], 1)])
        assert nested.fingerprint == flat.fingerprint
        assert numbers(nested) == numbers(flat)

    def test_mixture_keeps_its_order_in_a_concatenation(self, parts: list[ShardDataset]) -> None:
        mixture = Mixture([(parts[0], 1), (parts[1], 1)])
        assert numbers(parts[2] + mixture) == numbers(parts[2]) + numbers(mixture)
        assert numbers(mixture + parts[2]) == numbers(mixture) + numbers(parts[2])

    def test_fingerprints_distinguish_samples_and_order(self, parts: list[ShardDataset]) -> None:
        both = parts[0] + parts[1]
        views = [both, both[1:], both.select([0, 230, 1]), both.select([230, 0, 1]), both[::-1]]
        assert len({view.fingerprint for view in views}) == len(views)
        assert both[:].fingerprint == both.fingerprint
        assert both[10:250].fingerprint == (parts[0][10:] + parts[1][:20]).fingerprint

    def test_process_worker_reads_a_pickled_view(self, parts: list[ShardDataset]) -> None:
        view = (parts[0] + parts[1]).select([3, 250, 4])
        assert [batch["number"].tolist() for batch in DataLoader(view, 2, num_workers=1, worker_type="process")] == [
            [3, 1020],
            [4],
        ]


def write(path: Path, schema: Any, samples: list[dict[str, Any]], **options: Any) -> ShardDataset:
    with DatasetWriter(path, schema, **options) as writer:
        for sample in samples:
            writer.write(sample)
    return ShardDataset(path)


JOINED: list[tuple[Any, Any, Any, Any, str]] = [
    (Scalar("int32"), Scalar("int64"), 1, 1 << 40, "int64"),
    (Scalar("uint8"), Scalar("int16"), 200, -5, "int16"),
    (Scalar("float32"), Scalar("float64"), 0.5, 0.1, "float64"),
    (Scalar("int32", optional=True), Scalar("int32"), None, 7, "int32"),
    (Array("int8", (2,)), Array("int32", (2,)), [1, 2], [3, 1 << 20], "int32[2]"),
    (Array("int32", (2,)), Array("int32", (3,)), [1, 2], [3, 4, 5], "int32[?]"),
    (Array("int32", (None,)), Array("int64", (None,)), [1], [3, 1 << 40], "int64[?]"),
    (Text(), Text(optional=True), "a", None, "text"),
]
REFUSED: list[tuple[Any, Any]] = [
    (Scalar("int64"), Scalar("float64")),
    (Scalar("int64"), Scalar("uint64")),
    (Scalar("bool"), Scalar("int8")),
    (Text(), Scalar("int64")),
    (Text(), Object()),
    (Image("RGB"), Image("L")),
    (Array("f4", (2,)), Array("f4", (2, 2))),
    (Scalar("f4"), Array("f4", (1,))),
]


def plain(value: Any) -> Any:
    return None if value is None or value is np.ma.masked else value.tolist() if hasattr(value, "tolist") else value


class TestTypes:
    @pytest.mark.parametrize("swapped", [False, True])
    @pytest.mark.parametrize(("a", "b", "x", "y", "joined"), JOINED, ids=lambda value: str(value))
    def test_types_are_joined_without_loss(
        self, tmp_path: Path, a: Any, b: Any, x: Any, y: Any, joined: str, swapped: bool
    ) -> None:
        pairs = [(a, x), (b, y)]
        first, second = pairs[::-1] if swapped else pairs
        one = write(tmp_path / "a", {"v": first[0]}, [{"v": first[1]}] * 3)
        two = write(tmp_path / "b", {"v": second[0]}, [{"v": second[1]}] * 2)
        both = one + two
        want = [first[1]] * 3 + [second[1]] * 2
        assert str(both.schema["v"]).startswith(joined)
        assert [plain(sample["v"]) for sample in both] == want
        assert [plain(value) for value in both.column("v")] == want
        kinds = set()
        for batch in [*DataLoader(both, 1), *DataLoader(both, 5), *DataLoader(both, 2, shuffle=True)]:
            column = batch["v"]
            kinds.add((type(column), getattr(column, "dtype", None)))
        assert len(kinds) == 1
        dtypes = {getattr(both[k]["v"], "dtype", None) for k in (0, 4) if want[k] is not None}
        assert len(dtypes) == 1

    @pytest.mark.parametrize(("a", "b"), REFUSED, ids=lambda value: str(value))
    def test_unjoinable_types_are_refused_by_name(self, tmp_path: Path, a: Any, b: Any) -> None:
        one, two = (write(tmp_path / name, {"v": kind}, []) for name, kind in (("a", a), ("b", b)))
        for combine in (lambda: one + two, lambda: two + one):
            with pytest.raises(SchemaError, match=r"in ShardDataset\('.*/[ab]'.*cannot be joined.*field 'v'"):
                combine()

    def test_different_processing_of_a_field_is_refused(self, tmp_path: Path) -> None:
        samples = [{"image": encode(photo(20, 20))}]
        one, two = (write(tmp_path / name, {"image": Image()}, samples) for name in "ab")
        with pytest.raises(SchemaError, match="transformed in one of"):
            one.transform(image=lambda pixels: pixels[:8, :8]) + two
        with pytest.raises(SchemaError, match="decode the field differently"):
            one + ShardDataset(tmp_path / "b", decode=None)


class TestClasses:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> list[ShardDataset]:
        classes = {"a": ["cat", "dog"], "b": ["bird", "cat"]}
        return [
            write(
                tmp_path / name,
                None,
                [{"label": k % 2} for k in range(4)],
                metadata={"classes": classes[name], "by": "me"},
            )
            for name in "ab"
        ]

    @pytest.mark.parametrize("combine", [
        lambda pair: ConcatDataset(pair, relabel=True),
        lambda pair: Mixture([(one, 1) for one in pair], relabel=True)[:],
    ])  # fmt: skip
    def test_relabel_maps_labels_to_the_union_of_classes(
        self, pair: list[ShardDataset], combine: Callable[[Any], Any]
    ) -> None:
        both = combine(pair)
        assert both.metadata == {"classes": ["cat", "dog", "bird"], "by": "me"}
        names = [both.metadata["classes"][sample["label"]] for sample in both]
        assert sorted(names) == ["bird"] * 2 + ["cat"] * 4 + ["dog"] * 2
        batches = [batch["label"].tolist() for batch in DataLoader(both, 3, shuffle=True)]
        assert sorted(label for batch in batches for label in batch) == sorted(both.column("label").tolist())
        assert numbers_of_class(both, 2) == 2

    @pytest.mark.parametrize("wrap", [str, lambda k: [k], lambda k: {"name": k}], ids=["text", "list", "dict"])
    def test_classes_may_be_anything(self, tmp_path: Path, wrap: Callable[[int], Any]) -> None:
        both = []
        for name, numbers in (("a", [1, 2]), ("b", [3, 2])):
            samples, metadata = [{"label": 0}, {"label": 1}], {"classes": [wrap(k) for k in numbers]}
            both.append(write(tmp_path / name, None, samples, metadata=metadata))
        whole = ConcatDataset(both, relabel=True)
        assert whole.metadata["classes"] == [wrap(1), wrap(2), wrap(3)]
        assert whole.column("label").tolist() == [0, 1, 2, 1]

    def test_only_missing_labels_need_no_classes(self, tmp_path: Path, pair: list[ShardDataset]) -> None:
        schema = {"label": Scalar("int64", optional=True)}
        none = write(tmp_path / "none", schema, [{"label": None}] * 2, metadata={"classes": []})
        assert ConcatDataset([pair[0], none], relabel=True).column("label").tolist() == [0, 1, 0, 1, None, None]

    def test_conflicting_classes_are_refused_with_a_hint(self, pair: list[ShardDataset]) -> None:
        with pytest.raises(SchemaError, match=r"label 0 is 'cat' in .* and 'bird' in .*relabel=True"):
            pair[0] + pair[1]

    def test_label_without_a_class_is_an_error(self, tmp_path: Path, pair: list[ShardDataset]) -> None:
        odd = write(tmp_path / "odd", None, [{"label": 5}], metadata={"classes": ["fish"]})
        with pytest.raises(SchemaError, match="not one of the 1 classes"):
            ConcatDataset([pair[0], odd], relabel=True).column("label")

    def test_metadata_keeps_common_entries(self, tmp_path: Path) -> None:
        one = write(tmp_path / "a", None, [{"x": 1}], metadata={"classes": ["a"], "made": 1, "by": "me"})
        two = write(tmp_path / "b", None, [{"x": 1}], metadata={"made": 2, "by": "me"})
        assert (one + two).metadata == {"by": "me"}


def numbers_of_class(view: Any, label: int) -> int:
    return len(view.filter(label=label))


class TestErrors:
    @pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"sampler": range(60)}])
    def test_damage_names_the_dataset_and_the_shard(self, tmp_path: Path, options: dict[str, Any]) -> None:
        for name in "ab":
            write_numbers(tmp_path / name, range(30))
        index = ShardDataset(tmp_path / "b").store.shard(0).index
        with open(tmp_path / "b" / "shard-00000.rio", "r+b") as file:
            file.seek(int(index.page_offsets[1, 0]))
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
        one, two = (ShardDataset(tmp_path / name) for name in "ab")
        both = one + two
        ways: list[Callable[[], Any]] = [
            lambda: list(DataLoader(both, 8, **options)),
            lambda: both.take(range(60)),
            lambda: [both[k] for k in range(60)],
            lambda: both.column("number"),
        ]
        for way in ways:
            with pytest.raises(CorruptError, match="page checksum mismatch") as caught:
                way()
            place = caught.value.place
            assert (place.dataset, place.file, place.block) == (str(tmp_path / "b"), "shard-00000.rio", 1)
        with pytest.raises(CorruptError) as caught:
            ShardDataset(tmp_path / "b").column("number")
        assert caught.value.place.dataset is None

    def test_error_of_a_map_names_the_dataset(self, parts: list[ShardDataset]) -> None:
        both = (parts[0] + parts[1]).map(lambda sample: {"x": 1 // (int(sample["number"]) - 1003)})
        with pytest.raises(ZeroDivisionError) as caught:
            list(DataLoader(both, 8))
        assert "dataset /" in caught.value.__notes__[0]
        assert "sample 3" in caught.value.__notes__[0]
