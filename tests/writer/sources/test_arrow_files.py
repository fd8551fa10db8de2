"""Several files as one table, in bounded memory; and files that are damaged, that lie, or that change."""

from __future__ import annotations

import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio.errors import MissingPackageError, SchemaError, SourceError
from recordio.format.numeric import Scalar
from recordio.writer.sources import SourceOptions, find_sources, open_source
from recordio.writer.sources.arrow.arrow_groups import GroupReader
from recordio.writer.sources.arrow.ipc_file import IpcFile
from recordio.writer.sources.arrow.parquet_file import ParquetFile
from recordio.writer.sources.arrow.parquet_footer import ParquetFooter, dictionary_nbytes
from tests.writer.sources.test_arrow_values import FORMS, values, write

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def folder(root: Path, *tables: Any, form: str = "parquet") -> str:
    for number, table in enumerate(tables):
        write(root / f"{number}.{form}", table)
    return str(root)


def opened(path: str) -> Any:
    (spec,) = find_sources(path).values()
    return open_source(spec.path, spec.kind, spec.options)


class TestSeveralFiles:
    @pytest.mark.parametrize("form", ["parquet", "arrow"])
    def test_are_one_table_in_the_order_of_their_names(self, tmp_path: Path, form: str) -> None:
        source = opened(folder(tmp_path, pa.table({"x": [1, 2, 3]}), pa.table({"x": [4, None]}), form=form))
        assert values(source) == [1, 2, 3, 4, None]
        assert source.schema["x"] == Scalar("int64", optional=True)
        assert [source.key(index) for index in (2, 3)] == [f"0.{form} row 2", f"1.{form} row 0"]

    def test_names_of_splits_make_splits(self, tmp_path: Path) -> None:
        for name in ("train-00000-of-00001", "test-00000-of-00001"):
            write(tmp_path / f"{name}.parquet", pa.table({"x": [1]}))
        assert {split: spec.kind for split, spec in find_sources(str(tmp_path)).items()} == {
            "train": "parquet",
            "test": "parquet",
        }

    def test_types_that_differ_name_the_column_and_both_files(self, tmp_path: Path) -> None:
        root = folder(tmp_path, pa.table({"x": pa.array([1], "int32")}), pa.table({"x": [1]}))
        with pytest.raises(SourceError, match=r"column 'x' is int64 in 1\.parquet and int32 in 0\.parquet: write one"):
            opened(root)

    def test_units_that_differ_are_refused(self, tmp_path: Path) -> None:
        moments = [pa.table({"x": pa.array([1], pa.timestamp(unit))}) for unit in ("ms", "us")]
        with pytest.raises(SourceError, match=r"timestamp\[us\] in 1\.parquet and timestamp\[ms\]"):
            opened(folder(tmp_path, *moments))

    def test_a_column_that_one_file_lacks_is_refused(self, tmp_path: Path) -> None:
        root = folder(tmp_path, pa.table({"x": [1], "y": [1]}), pa.table({"x": [1]}))
        with pytest.raises(SourceError, match=r"0\.parquet has the column 'y', and 1\.parquet has not"):
            opened(root)

    def test_a_column_without_values_takes_the_type_of_the_others(self, tmp_path: Path) -> None:
        source = opened(folder(tmp_path, pa.table({"x": pa.nulls(2)}), pa.table({"x": [1.5]})))
        assert source.schema["x"] == Scalar("float64", optional=True)
        assert values(source) == [None, None, 1.5]

    def test_lists_with_missing_values_in_one_file_are_objects_in_all(self, tmp_path: Path) -> None:
        lists = [pa.table({"x": pa.array([one], pa.list_(pa.int64()))}) for one in ([1, 2], [None])]
        assert values(opened(folder(tmp_path, *lists))) == [[1, 2], [None]]

    def test_columns_may_stand_in_another_order(self, tmp_path: Path) -> None:
        source = opened(folder(tmp_path, pa.table({"x": [1], "y": ["a"]}), pa.table({"y": ["b"], "x": [2]})))
        assert values(source) == [1, 2]

    def test_two_columns_of_one_name_are_refused(self, tmp_path: Path) -> None:
        table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
        with pytest.raises(SourceError, match="two columns are called 'x'"):
            open_source(write(tmp_path / "t.arrow", table))


class TestReading:
    @pytest.mark.parametrize("form", FORMS)
    def test_in_any_order_and_after_pickling(self, tmp_path: Path, form: str) -> None:
        source = open_source(write(tmp_path / form, pa.table({"x": range(20)}), rows=3))
        assert values(source, [5]) == [5]
        source = pickle.loads(pickle.dumps(source))
        order = [7, 7, 0, 19, 3, 18]
        assert values(source, order) == order
        assert np.concatenate([batch["x"] for batch in source.batches(np.array(order))]).tolist() == order

    @pytest.mark.parametrize("form", FORMS)
    def test_each_group_is_decoded_once(self, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
        source = open_source(write(tmp_path / form, pa.table({"x": range(20)}), rows=4))
        decoded: list[int] = []
        for kind in (ParquetFile, IpcFile):
            steps = kind.steps
            monkeypatch.setattr(kind, "steps", lambda self, n, c=None, s=steps: (decoded.append(n), s(self, n, c))[1])
        assert values(source, range(11)) + values(source, range(11, 20)) == list(range(20))
        shuffled = np.random.default_rng(0).permutation(20)
        assert values(source, shuffled) == shuffled.tolist()
        assert decoded == [0, 1, 2, 3, 4] * 2

    def test_runs_are_bounded_by_bytes(self, tmp_path: Path) -> None:
        source = open_source(write(tmp_path / "t.parquet", pa.table({"x": range(8)})))
        reader = GroupReader(source._groups, source._open)  # type: ignore[attr-defined]
        sizes = np.full(8, 100 << 20)
        assert [len(run) for run in reader.runs(np.arange(8)[::-1], sizes)] == [2, 3, 2, 1]
        assert [len(run) for run in reader.runs(np.arange(8), sizes)] == [8]

    def test_words_written_out_come_in_small_batches(self, tmp_path: Path) -> None:
        word = "x" * (1 << 20)
        words = pa.DictionaryArray.from_arrays(np.zeros(1000, np.int32), [word])
        source = open_source(write(tmp_path / "t.arrow", pa.table({"x": words}), rows=1000))
        first = next(iter(source.batches(np.arange(1000)) or ()))
        assert len(first["x"]) == 1000 >> 4
        assert first["x"][0] == word

    def test_a_dictionary_in_a_row_that_is_too_large_is_refused(self, tmp_path: Path) -> None:
        words = pa.DictionaryArray.from_arrays(np.zeros(1 << 20, np.int32), ["x" * (1 << 20)])
        lists = pa.ListArray.from_arrays(pa.array([0, 1 << 20], pa.int32()), words)
        source = open_source(write(tmp_path / "t.arrow", pa.table({"x": lists})))
        assert "a row has 1,048,576 MiB" in str(values(source)[0])

    def test_views_of_one_text_come_in_small_batches(self, tmp_path: Path) -> None:
        view = struct.pack("<i4sii", 1 << 20, b"xxxx", 0, 0)
        buffers = [None, pa.py_buffer(view * 1000), pa.py_buffer(b"x" * (1 << 20))]
        texts = pa.Array.from_buffers(pa.string_view(), 1000, buffers)
        source = open_source(write(tmp_path / "t.arrow", pa.table({"x": texts}), rows=1000))
        first = next(iter(source.batches(np.arange(1000)) or ()))
        assert len(first["x"]) < 65

    def test_names_are_for_columns_of_files(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match="keeps the names in columns of files, and there is none"):
            open_source(write(tmp_path / "t.parquet", pa.table({"x": [1]}))).with_names()

    def test_categories_are_kept_where_the_file_has_them(self, tmp_path: Path) -> None:
        words = pa.DictionaryArray.from_arrays([1, 0, 1], ["low", "high", "never"])
        source = open_source(write(tmp_path / "t.arrow", pa.table({"x": words})))
        assert (values(source), source.metadata) == (
            ["high", "low", "high"],
            {"x_categories": ["low", "high", "never"]},
        )

    def test_a_word_of_a_dictionary_that_is_missing(self, tmp_path: Path) -> None:
        words = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a", None]))
        assert values(open_source(write(tmp_path / "t.arrow", pa.table({"x": words})))) == ["a", None, "a"]

    def test_a_dictionary_that_is_replaced_in_a_stream(self, tmp_path: Path) -> None:
        batches = [pa.record_batch({"x": pa.array(two).dictionary_encode()}) for two in (["a", "b"], ["c", "d"])]
        with pa.ipc.new_stream(str(tmp_path / "t.arrow"), batches[0].schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        source = open_source(str(tmp_path / "t.arrow"))
        assert (values(source), source.metadata) == (["a", "b", "c", "d"], {})
        assert values(source, [3, 0]) == ["d", "a"]

    def test_without_the_package_the_error_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "t.parquet", pa.table({"x": [1]}))
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'recordio-shards\[arrow\]'"):
            open_source(path)


class TestDamage:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_file_that_is_cut_off_anywhere(self, tmp_path: Path, form: str) -> None:
        path = Path(write(tmp_path / form, pa.table({"x": range(9), "s": ["text"] * 9}), rows=4))
        data = path.read_bytes()
        for length in range(0, len(data) - 8, max(1, len(data) // 60)):
            path.write_bytes(data[:length])
            try:
                source = open_source(str(path))
            except SourceError:
                continue
            assert form == "stream.arrow"  # a stream may end behind any batch; the note says so
            assert "rows may have been cut off" in "; ".join(source.notes)

    @pytest.mark.parametrize("form", FORMS)
    def test_a_file_that_is_replaced_while_it_is_read(self, tmp_path: Path, form: str) -> None:
        path = Path(write(tmp_path / form, pa.table({"x": range(8)})))
        source = open_source(str(path))
        assert values(source, [0]) == [0]
        (tmp_path / "new").mkdir()
        write(tmp_path / "new" / form, pa.table({"x": range(8)}))
        os.utime(path)
        assert "changed while it was converted" in str(values(source, [7])[0])
        os.replace(tmp_path / "new" / form, path)
        assert "changed while it was converted" in str(values(pickle.loads(pickle.dumps(source)), [7])[0])

    def test_a_group_that_is_damaged_loses_its_own_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "t.arrow"
        batches = [pa.record_batch({"x": [f"text {n}", f"text {n + 1}"]}) for n in (0, 2, 4)]
        with pa.ipc.new_file(str(path), batches[0].schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        data = bytearray(path.read_bytes())
        offsets = data.index(struct.pack("<3i", 0, 6, 12), data.index(b"text 1"))
        data[offsets + 4 : offsets + 8] = struct.pack("<i", 1 << 30)
        path.write_bytes(data)
        found = values(open_source(str(path)))
        assert [found[index] for index in (0, 1, 4, 5)] == ["text 0", "text 1", "text 4", "text 5"]
        assert all("t.arrow row" in str(found[index]) for index in (2, 3))

    def test_a_footer_whose_types_do_not_agree(self, tmp_path: Path) -> None:
        """PyArrow ends the process over it."""
        path = Path(write(tmp_path / "t.parquet", pa.table({"column": pa.array([1, 2], "int32")})))
        data = path.read_bytes()
        start = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
        chunk = data.index(b"\x1c\x15\x02", start)  # a struct whose first field is the type, 1: INT32
        path.write_bytes(data[:chunk] + b"\x1c\x15\x06" + data[chunk + 3 :])
        with pytest.raises(SourceError, match="a row group does not have the columns of the schema"):
            open_source(str(path))

    @pytest.mark.parametrize("rows", [1 << 40, (1 << 62) - 1])
    def test_rows_that_no_file_of_this_size_has(self, tmp_path: Path, rows: int) -> None:
        path = Path(write(tmp_path / "t.arrow", pa.table({"x": pa.nulls(777)}), rows=777))
        path.write_bytes(path.read_bytes().replace(struct.pack("<q", 777), struct.pack("<q", rows)))
        with pytest.raises(SourceError, match=f"it says it has {rows:,} rows, in"):
            open_source(str(path))

    def test_compressed_parts_that_would_take_all_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "t.arrow"
        table = pa.table({"x": np.zeros(1000)})
        with pa.ipc.new_file(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
        data = path.read_bytes()
        path.write_bytes(data.replace(struct.pack("<q", 8000) + b"\x28\xb5", struct.pack("<q", 1 << 45) + b"\x28\xb5"))
        assert "a record batch has more than 4 GiB" in str(values(open_source(str(path)))[0])

    def test_a_dictionary_of_long_words_shortens_the_steps(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        encoded = pa.DictionaryArray.from_arrays(np.zeros(1 << 15, np.int32), ["x" * (1 << 20)])
        parquet.write_table(pa.table({"x": encoded}), path, store_schema=False)
        file = ParquetFile(os.fsencode(path))
        assert next(file.steps(0)).num_rows == 256
        file.close()

    def test_feather_of_version_1(self, tmp_path: Path) -> None:
        (tmp_path / "t.feather").write_bytes(b"FEA1" + bytes(100))
        with pytest.raises(SourceError, match="Feather of version 1"):
            open_source(str(tmp_path / "t.feather"))

    def test_not_what_the_name_says(self, tmp_path: Path) -> None:
        for name in ("t.parquet", "t.arrow"):
            (tmp_path / name).write_bytes(b"a,b\n1,2\n" * 10)
            with pytest.raises(SourceError, match=r"cut off"):
                open_source(str(tmp_path / name))

    def test_no_rows(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"there are no rows - .*t\.parquet"):
            open_source(write(tmp_path / "t.parquet", pa.table({"x": pa.array([], "int64")})))


def test_the_footer_says_what_pyarrow_says(tmp_path: Path) -> None:
    table = pa.table({"a.b": [1, None, 3], "s": [{"a": "x", "b": [1, 2]}] * 3, "d": [b"x"] * 3})
    path = write(tmp_path / "t.parquet", table)
    data = Path(path).read_bytes()
    found = ParquetFooter.read(lambda at, size: data[at : at + size], len(data))
    about = parquet.read_metadata(path)
    assert [".".join(leaf.path) for leaf in found.leaves] == [about.schema.column(k).path for k in range(4)]
    assert [leaf.repeated for leaf in found.leaves] == [False, False, True, False]
    for number, group in enumerate(found.groups):
        theirs = about.row_group(number)
        assert (group.rows, group.nbytes) == (theirs.num_rows, theirs.total_byte_size)
        for k, chunk in enumerate(group.chunks):
            column = theirs.column(k)
            assert chunk.start == min(column.dictionary_page_offset, column.data_page_offset)
            assert chunk.missing == column.statistics.null_count
    assert dictionary_nbytes(data[found.groups[0].chunks[3].start :][:32]) == 4 + 1


def test_masks_of_options_reach_pictures(tmp_path: Path) -> None:
    from tests.writer.sources.test_layouts import GREY, PNG

    column = pa.array([{"bytes": PNG, "path": None}, {"bytes": GREY, "path": None}])
    path = write(tmp_path / "t.parquet", pa.table({"x": column}))
    source = open_source(path)
    assert str(source.schema["x"]).startswith("image")
    assert "'x' holds files by name, and they are pictures" in source.notes
    assert open_source(path, options=SourceOptions(masks=("x",))).pictures == {"x": "mask"}
