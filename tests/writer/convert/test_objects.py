"""Python objects as sources: what they hold is kept, by any number of workers, and what is left out is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Array, DatasetWriter, Scalar, SchemaError, ShardDataset, SourceError, Text, WorkerError, convert
from recordio.writer.convert.convert import ConvertPlan
from tests.writer.convert import makers
from tests.writer.convert.makers import contents, expected, made


def column(folder: Path, name: str) -> list[Any]:
    return [sample[name] for sample in ShardDataset(folder)]


class TestSamples:
    def test_a_list_of_samples_is_kept(self, tmp_path: Path) -> None:
        report = made(list(map(makers.one, range(300))), tmp_path / "out")
        dataset = ShardDataset(tmp_path / "out")
        assert dict(dataset.schema) == {"n": Scalar("int64"), "text": Text(), "x": Array("float32", (4,))}
        assert dataset.column("n").tolist() == list(range(300))
        assert np.array_equal(dataset[299]["x"], makers.one(299)["x"])
        assert (report.source, report.kind, report.samples, report.made) == ("list of 300 inputs", "python", 300, 300)
        assert report.shards > 2
        assert not dataset.metadata

    def test_a_function_makes_one_sample_or_several_or_none(self, tmp_path: Path) -> None:
        report = made(range(1000), tmp_path / "out", fn=makers.any_number)
        assert column(tmp_path / "out", "n") == expected(range(1000))
        assert (report.samples, report.dropped) == (len(expected(range(1000))), 100)
        assert ShardDataset(tmp_path / "out").metadata == {
            "conversion": {
                "options": {"not_recorded": ["fn"]},
                "samples": report.samples,
                "dropped": report.dropped,
            }
        }
        again = made(range(1000), tmp_path / "out", fn=makers.any_number)
        assert again.done_before
        assert (again.samples, again.dropped) == (report.samples, 100)

    @pytest.mark.slow
    def test_bytes_do_not_depend_on_the_number_of_workers(self, tmp_path: Path) -> None:
        for workers in (1, 2, 3):
            out = tmp_path / str(workers)
            made(list(range(1000)), out, fn=makers.any_number, shuffle=3, workers=workers)
        assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")
        assert sorted(column(tmp_path / "1", "n")) == expected(range(1000))
        assert column(tmp_path / "1", "n") != expected(range(1000))

    def test_inputs_beyond_the_limit_are_not_looked_at(self, tmp_path: Path) -> None:
        for options in ({"limit": 5}, {"limit": 5, "shuffle": 2}):
            seen: list[int] = []
            made(
                range(1000), tmp_path / f"{len(options)}", fn=lambda n, seen=seen: seen.append(n) or {"n": n}, **options
            )
            assert len(set(seen)) == 5

    def test_limit_counts_inputs(self, tmp_path: Path) -> None:
        made(range(1000), tmp_path / "out", fn=makers.any_number, limit=15)
        assert column(tmp_path / "out", "n") == expected(range(15))

    def test_tuples_take_their_names_from_columns(self, tmp_path: Path) -> None:
        made(makers.Squares(), tmp_path / "out", columns=("image", "label"))
        dataset = ShardDataset(tmp_path / "out")
        assert dataset[7]["image"].tolist() == [[7] * 3] * 3
        assert dataset.column("label").tolist() == [n % 2 for n in range(300)]
        assert dataset.metadata["classes"] == ["even", "odd"]

    def test_tuples_without_names_are_refused_with_the_line_that_helps(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match=r"tuples of 2 values without names: give columns=\('image', 'label'\)"):
            made(makers.Squares(), tmp_path / "out")
        with pytest.raises(SchemaError, match="columns has 3 names, and the sample 2 values"):
            made(makers.Squares(), tmp_path / "out", columns=("a", "b", "c"))

    def test_columns_choose_among_the_fields_of_dicts(self, tmp_path: Path) -> None:
        made([makers.one(3)], tmp_path / "out", columns=("x", "n"))
        assert list(ShardDataset(tmp_path / "out").schema) == ["x", "n"]

    def test_values_by_themselves_need_a_name(self, tmp_path: Path) -> None:
        made(["a", "b"], tmp_path / "out", columns="text")
        assert column(tmp_path / "out", "text") == ["a", "b"]
        with pytest.raises(SchemaError, match=r"a sample is a dict of fields, not str 'a': give fn=.*input 0: a"):
            made(["a", "b"], tmp_path / "other")
        with pytest.raises(SchemaError, match=r"not int 1: fn has to return one, several, or None"):
            made(["a", "b"], tmp_path / "other", fn=len)

    def test_a_field_that_is_missing_in_some_of_the_first_samples_is_optional(self, tmp_path: Path) -> None:
        made([{"a": 1, "b": "x"}, {"a": 2}, {"a": None, "b": "y"}], tmp_path / "out")
        assert column(tmp_path / "out", "a") == [1, 2, None]
        assert column(tmp_path / "out", "b") == ["x", None, "y"]

    def test_a_schema_is_obeyed(self, tmp_path: Path) -> None:
        schema = {"n": Scalar("uint16"), "text": Text(), "x": Array("float32", (None,))}
        made(range(1000), tmp_path / "out", fn=makers.other_shape_at_700, schema=schema)
        dataset = ShardDataset(tmp_path / "out")
        assert dict(dataset.schema) == schema
        assert dataset[700]["x"].shape == (5,)

    def test_a_sample_unlike_the_first_ones_is_refused_with_advice(self, tmp_path: Path) -> None:
        text = r"the fields are those of the first 64 samples: give schema= if others differ - input 700"
        with pytest.raises(SchemaError, match=text):
            made(range(1000), tmp_path / "out", fn=makers.other_shape_at_700)

    def test_a_dataset_of_ours_is_taken_as_it_is_stored(self, tmp_path: Path) -> None:
        schema = {"a": Scalar("uint8", optional=True), "t": Text()}
        with DatasetWriter(tmp_path / "in", schema, metadata={"classes": ["x"]}) as writer:
            for n in range(100):
                writer.write({"a": n or None, "t": str(n)})
        dataset = ShardDataset(tmp_path / "in")
        made(dataset[10:0:-1], tmp_path / "out")
        found = ShardDataset(tmp_path / "out")
        assert dict(found.schema) == schema
        assert found.metadata == {"classes": ["x"]}
        assert column(tmp_path / "out", "t") == [str(n) for n in range(10, 0, -1)]
        assert made(dataset[10:0:-1], tmp_path / "out").done_before

    def test_announcement_and_progress(self, tmp_path: Path) -> None:
        plans: list[ConvertPlan] = []
        calls: list[tuple[int, int]] = []
        options: dict[str, Any] = {"announce": plans.append, "progress": lambda *call: calls.append(call)}
        made(range(200), tmp_path / "out", fn=makers.any_number, **options)
        assert [(plan.source, plan.kind, plan.samples) for plan in plans] == [("range of 200 inputs", "python", 200)]
        assert calls == sorted(calls)
        assert calls[-1] == (200, 200)


class TestSplits:
    source: dict[str, Any] = {"train": makers.Squares(30), "test": makers.Squares(10)}  # noqa: RUF012

    def test_a_dict_of_datasets_becomes_a_dataset_each(self, tmp_path: Path) -> None:
        reports = convert(self.source, tmp_path / "out", columns=("image", "label"))
        assert isinstance(reports, dict)
        assert {name: report.samples for name, report in reports.items()} == {"train": 30, "test": 10}
        assert len(ShardDataset(tmp_path / "out/test")) == 10

    def test_one_split_is_chosen(self, tmp_path: Path) -> None:
        assert made(self.source, tmp_path / "out", split="test", columns=("image", "label")).samples == 10
        with pytest.raises(SchemaError, match="there is no split 'val': there are train, test"):
            made(self.source, tmp_path / "val", split="val")
        with pytest.raises(SchemaError, match="there is no split 'val': a list has none"):
            made([1], tmp_path / "val", split="val")


class TestOtherSources:
    def test_a_function_gets_the_samples_of_a_table(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("n,text\n1,one\n2,\n3,three\n")
        made(tmp_path / "t.csv", tmp_path / "out", fn=makers.length)
        assert column(tmp_path / "out", "length") == [3, 0, 5]
        assert column(tmp_path / "out", "n") == [1, 2, 3]

    def test_a_function_gets_paths(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{n}.txt" for n in range(5)]
        for path in paths:
            path.write_text(path.stem)
        made(paths, tmp_path / "out", fn=makers.read)
        assert column(tmp_path / "out", "text") == list("01234")
        assert made(paths, tmp_path / "out", fn=makers.read).done_before
        paths[3].write_text("three")
        assert made(paths, tmp_path / "out", fn=makers.read, overwrite=True).made == 5
        assert column(tmp_path / "out", "text")[3] == "three"

    def test_names_of_files_stay_beside_what_a_function_makes(self, tmp_path: Path) -> None:
        for n in range(4):
            (tmp_path / "in" / f"class_{n % 2}").mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / f"class_{n % 2}/{n}.txt").write_text(str(n))
        for workers in (1, 2):
            made(tmp_path / "in", tmp_path / f"{workers}", fn=makers.length, shard_bytes=1, workers=workers)
        assert contents(tmp_path / "1") == contents(tmp_path / "2")
        dataset = ShardDataset(tmp_path / "1")
        assert list(dataset.schema) == ["text", "label", "length"]
        assert dataset.column("file") == ["class_0/0.txt", "class_0/2.txt", "class_1/1.txt", "class_1/3.txt"]


class TestErrors:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_an_error_of_the_function_names_the_input_and_keeps_its_traceback(
        self, tmp_path: Path, workers: int
    ) -> None:
        text = r"fn raised ValueError: seven hundred - input 700: int 700"
        with pytest.raises(SourceError, match=text) as caught:
            made(list(range(1000)), tmp_path / "out", fn=makers.bad_at_700, workers=workers)
        cause = caught.value.__cause__
        assert isinstance(cause, ValueError) if workers == 1 else "in bad_at_700" in str(cause)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_bad_inputs_are_skipped_as_a_whole_and_reported(self, tmp_path: Path, workers: int) -> None:
        options: dict[str, Any] = {"fn": makers.bad_in_the_middle, "workers": workers, "on_error": "skip"}
        report = made(list(range(1000)), tmp_path / "out", **options)
        assert report.skipped == (("input 700: int 700", "fn raised ValueError: seven hundred"),)
        assert column(tmp_path / "out", "n") == [n for n in range(1000) if n != 700 for _ in range(2)]
        assert made(list(range(1000)), tmp_path / "out", **options).skipped == report.skipped

    def test_samples_that_do_not_fit_are_skipped_and_reported(self, tmp_path: Path) -> None:
        report = made(list(range(1000)), tmp_path / "out", fn=makers.other_shape_at_700, on_error="skip")
        assert [name for name, _ in report.skipped] == ["input 700"]
        assert report.samples == 999

    def test_an_item_that_a_dataset_cannot_give_is_named(self, tmp_path: Path) -> None:
        columns = ("image", "label")
        with pytest.raises(SourceError, match=r"Squares\[5\] raised KeyError: 'gone' - input 5"):
            made(makers.Squares(bad=5), tmp_path / "out", columns=columns)
        report = made(makers.Squares(bad=5), tmp_path / "out", columns=columns, on_error="skip")
        assert report.samples == 299

    def test_inputs_that_give_nothing_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="no input gave a sample"):
            made([1, 2], tmp_path / "out", fn=none_of)
        with pytest.raises(SourceError, match="no input gave a sample"):
            made(range(9, 100), tmp_path / "out", fn=none_below_20, limit=3)
        with pytest.raises(SourceError, match="list of 0 inputs is empty"):
            made([], tmp_path / "out")

    @pytest.mark.parametrize(
        ("source", "options", "text"),
        [
            ({"a": [1]}, {}, "the source is a dict"),
            (7, {}, "the source is int 7: expected a path"),
            ([1], {"kind": "csv"}, "are for files"),
            ([1], {"delimiter": ";"}, "are for files"),
            ([1], {"fn": 3}, "fn is int 3: expected a function"),
            ([1], {"identity": 3}, "identity is 3: expected a text"),
            ([1], {"engine": "spark"}, "unknown engine 'spark'"),
            ([{"a": 1}], {"keep_names": True}, "keep_names is for files|keep_names .* is for files"),
            (__file__, {"schema": {"a": Text()}}, "schema is for the samples of fn"),
            (__file__, {"identity": "1"}, "identity is for the samples of fn"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, tmp_path: Path, source: Any, options: Any, text: str) -> None:
        with pytest.raises(SchemaError, match=text):
            made(source, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


def none_of(number: int) -> None:
    return None


def none_below_20(number: int) -> Any:
    return makers.one(number) if number >= 20 else None


class TestProcesses:
    def test_a_lambda_is_refused_for_processes_by_name(self, tmp_path: Path) -> None:
        text = r"worker processes cannot import .*<lambda>: .*test_objects\.py, line \d+.*or use workers=1"
        with pytest.raises(WorkerError, match=text):
            made(list(range(1000)), tmp_path / "out", fn=lambda n: {"n": n}, workers=2)

    def test_without_a_wish_for_workers_a_lambda_is_called_here_and_that_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("recordio.writer.convert.engines._default_workers", lambda: 2)
        report = made(list(range(1000)), tmp_path / "out", fn=lambda n: {"n": n}, workers=None)
        assert report.samples == 1000
        assert re.match("one process does it all: worker processes cannot import .*<lambda>", report.notes[0])
        assert ShardDataset(tmp_path / "out").metadata == {"conversion": {"options": {"not_recorded": ["fn"]}}}

    def test_texts_by_class_are_converted_by_processes(self, tmp_path: Path) -> None:
        for n in range(4):
            (tmp_path / "in" / f"class_{n % 2}").mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / f"class_{n % 2}/{n}.txt").write_text(str(n))
        assert made(tmp_path / "in", tmp_path / "out", shard_bytes=1, workers=2).samples == 4


def test_a_path_goes_on_being_a_path(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("n\n1\n")
    report = convert(str(tmp_path / "t.csv"), tmp_path / "out")
    assert not isinstance(report, dict)
    assert report.kind == "csv"
