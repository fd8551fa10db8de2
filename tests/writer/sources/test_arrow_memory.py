"""Long words that stand once in a dictionary and a thousand times in lists: read a few rows at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio.errors import SourceError
from recordio.writer.sources import open_source
from recordio.writer.sources.arrow import parquet_file, parquet_footer

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
ROWS, IN_A_ROW = 300, 3
WORD = "w" * 10_000


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_file, "_MOST_STEP_NBYTES", 1 << 20)
    monkeypatch.setattr("recordio.writer.sources.arrow.arrow_groups._PIECE_NBYTES", 1 << 18)


def column(form: str) -> Any:
    """A column of three words a row, all one word."""
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS * IN_A_ROW, "i4")), pa.array([WORD]))
    starts = pa.array(np.arange(0, ROWS * IN_A_ROW + 1, IN_A_ROW, dtype="i4"))
    if form == "lists":
        return pa.ListArray.from_arrays(starts, words)
    if form == "lists of structs":
        return pa.ListArray.from_arrays(starts, pa.StructArray.from_arrays([words], ["a"]))
    if form == "maps":
        return pa.MapArray.from_arrays(starts, pa.array(["a", "b", "c"] * ROWS), words)
    return pa.StructArray.from_arrays([pa.ListArray.from_arrays(starts, words)], ["a"])


VALUES: dict[str, Any] = {
    "lists": [WORD] * 3,
    "lists of structs": [{"a": WORD}] * 3,
    "maps": [("a", WORD), ("b", WORD), ("c", WORD)],
    "structs of lists": {"a": [WORD] * 3},
}


@pytest.mark.parametrize("form", VALUES)
@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_lists_of_one_long_word_are_read_a_few_rows_at_a_time(tmp_path: Path, name: str, form: str) -> None:
    table = pa.table({"c": column(form), "n": np.arange(ROWS)})
    if name == "t.parquet":
        parquet.write_table(table, tmp_path / name, store_schema=False)
    else:
        with pa.ipc.new_file(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    source = open_source(tmp_path / name)
    before = pa.total_allocated_bytes()
    seen = 0
    for columns in source.batches(np.arange(ROWS)) or ():
        assert pa.total_allocated_bytes() - before < 4 << 20  # written out, the words take 9 MB
        assert all(value == VALUES[form] for value in columns["c"])
        seen += len(columns["n"])
    assert seen == ROWS
    assert [item["n"] for _, item in source.read([299, 0, 7])] == [299, 0, 7]  # type: ignore[index]


def test_a_column_of_more_values_than_its_bytes_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pa.table({"c": np.zeros(10_000, "i4")}), tmp_path / "t.parquet")
    assert len(open_source(tmp_path / "t.parquet")) == 10_000
    monkeypatch.setattr(parquet_footer, "_MAX_VALUES_PER_BYTE", 1)
    with pytest.raises(SourceError, match=r"a column says it has 10,000 values in \d+ bytes"):
        open_source(tmp_path / "t.parquet")
