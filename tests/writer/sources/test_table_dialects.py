"""How the cells of a table are separated, and which names its columns get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recordio import Scalar, SchemaError, SourceError, Text
from recordio.writer.sources import Source, SourceOptions, TableOptions, open_source


def table(tmp_path: Path, text: str, name: str = "t.csv", **options: Any) -> Source:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return open_source(path, options=SourceOptions(table=TableOptions(**options)))


def rows(source: Source) -> list[Any]:
    return [item for _, item in source.read(range(len(source)))]


def noted(source: Source, text: str) -> bool:
    return any(text in note for note in source.notes)


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("a|b\n1|2,3\n4|5,6\n", "'|'", {"a": 1, "b": "2,3"}),
        ("a;b\n1,5;2\n", "';'", {"a": "1,5", "b": 2}),
        ("a\tb\n1\tx, y\n", "tabs", {"a": 1, "b": "x, y"}),
        ('a\tb\n1\t"x\n2\ty\n', "tabs", {"a": 1, "b": '"x'}),
        ("id  x   y\n1   2.5  3\n 10 4.5 6\n", "spaces", {"id": 1, "x": 2.5, "y": 3}),
        ("a;b\n1;2\n3\n", "';'", {"a": 1, "b": 2}),
    ],
)
def test_separator_is_found_in_the_rows(tmp_path: Path, text: str, separator: str, expected: dict[str, Any]) -> None:
    source = table(tmp_path, text)
    assert rows(source)[0] == expected
    assert noted(source, f"separated by {separator}; delimiter= (--delimiter)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,tags\n1,x|y\n2,z|w\n", {"a": 1, "tags": "x|y"}),
        ("a,b\n1,2;3;4\n", {"a": 1, "b": "2;3;4"}),
        ("full name\nAda Lovelace\nAlan Turing\n", {"full name": "Ada Lovelace"}),
        ("text\nno separator here\n", {"text": "no separator here"}),
    ],
)
def test_other_marks_in_cells_do_not_separate(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    source = table(tmp_path, text)
    assert rows(source)[0] == expected
    assert source.notes == ()


def test_two_likely_separators_are_noted(tmp_path: Path) -> None:
    source = table(tmp_path, "a;b,c\n1;2,3\n")
    assert rows(source) == [{"a;b": "1;2", "c": 3}]
    assert noted(source, "separated by ',', although ';' would do")
    assert noted(table(tmp_path, "a,b\n1,2\n", "t.tsv"), "separated by tabs, although ',' would do")


def test_options_decide_separator_and_quotes(tmp_path: Path) -> None:
    assert rows(table(tmp_path, "a,b\n1,2\n", delimiter=";")) == [{"a,b": "1,2"}]
    assert rows(table(tmp_path, 'a~b\n1~"2\n', delimiter="~", quotes=False)) == [{"a": 1, "b": '"2'}]
    assert rows(table(tmp_path, 'a\tb\n"1"\t2\n', "t.tsv", quotes=False)) == [{"a": '"1"', "b": 2}]


def test_line_that_names_the_separator_is_no_row(tmp_path: Path) -> None:
    source = table(tmp_path, "sep=;\r\na;b\r\n1;2\r\n")
    assert list(source.read([0])) == [("t.csv line 3", {"a": 1, "b": 2})]
    assert noted(source, "the first line says")


def test_space_after_every_comma_belongs_to_it(tmp_path: Path) -> None:
    source = table(tmp_path, 'a, b\n1, "x, y"\n2,  z\n')
    assert [row["b"] for row in rows(source)] == ["x, y", "z"]
    assert noted(source, "the space after each ','")


def test_spaces_around_names_and_numbers_do_not_count(tmp_path: Path) -> None:
    source = table(tmp_path, "a, b,c \n1, 2, x\n3,4 ,y\n")
    assert rows(source) == [{"a": 1, "b": 2, "c": " x"}, {"a": 3, "b": 4, "c": "y"}]
    assert noted(source, "the spaces around the names of columns are left out: ' b', 'c '")


@pytest.mark.parametrize(
    ("text", "names", "note"),
    [
        (",a,b\n0,1,x\n1,2,y\n", ["Unnamed: 0", "a", "b"], "called as pandas calls it: 'Unnamed: 0'"),
        ("a,,b\n0,1,x\n1,2,y\n", ["a", "Unnamed: 1", "b"], "called as pandas calls it: 'Unnamed: 1'"),
        (",Unnamed: 0\n0,1\n", ["Unnamed: 0.1", "Unnamed: 0"], "numbered as in pandas: 'Unnamed: 0.1'"),
        ("a,b,a,a.1\n1,2,3,4\n", ["a", "b", "a.2", "a.1"], "numbered as in pandas: 'a.2'"),
        ("a,b,\n1,x,\n2,y,\n", ["a", "b"], "left out: 1 column without a name"),
        ("a,b\n1,x,\n2,y,\n", ["a", "b"], "left out: 1 column without a name"),
        ("a,b,\n1,x\n2,y\n", ["a", "b"], "the first line ends with a delimiter"),
        ("a,b\nr1,1,x\nr2,2,y\n", ["Unnamed: 0", "a", "b"], "one cell more than the first line"),
    ],
)
def test_every_column_gets_a_name(tmp_path: Path, text: str, names: list[str], note: str) -> None:
    source = table(tmp_path, text)
    assert list(source.schema) == names
    assert len(source) == text.count("\n") - 1
    assert all(isinstance(row, dict) and list(row) == names for row in rows(source))
    assert noted(source, note)


@pytest.mark.parametrize(
    "text",
    [
        "5.1,3.5,0\n4.9,3.0,1\n",
        "0,0,1\n0,1,1\n",
        "-1,2\n3,4\n",
        "7,3,9\n1,2,3\n",
        "39,Private,2.5\n50,Own,1.5\n",
        "p,x,s\ne,x,y\np,b,s\n",
        "1.5,2.5\n",
    ],
)
def test_first_row_of_values_is_a_row(tmp_path: Path, text: str) -> None:
    source = table(tmp_path, text)
    assert len(source) == text.count("\n")
    assert list(source.schema)[:2] == ["column_0", "column_1"]
    assert noted(source, "the first line is taken as a row")
    assert noted(source, "columns= (--columns) names them")
    assert source.key(0) == "t.csv line 1"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("name,x\na,1\n", False),
        ("word\nother\n", False),
        ("country,2010,2011,2012\nFR,5,6,7\n", True),
        ("0,1,2\n0.5,1.5,2.5\n", True),
        (",0,1\nr,0.5,1.5\n", True),
        ("150,4,setosa\n5.1,3.5,0\n4.9,3.0,1\n", True),
    ],
)
def test_names_stand_above_numbers(tmp_path: Path, text: str, note: bool) -> None:
    source = table(tmp_path, text)
    assert len(source) == text.count("\n") - 1
    assert noted(source, "taken as names, although") == note


@pytest.mark.parametrize("text", ["cat.jpg,3\ndog.jpg,1\n", "1,2\n3,4\n", "5\n3\n", "p,p,x\np,p,y\n"])
def test_unsure_header_is_asked_for(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match=r"header=True \(--header\) or header=False \(--no-header\) - .*t.csv"):
        table(tmp_path, text)
    assert len(table(tmp_path, text, header=False)) == text.count("\n")
    assert len(table(tmp_path, text, header=True)) == text.count("\n") - 1


def test_given_columns_name_the_columns(tmp_path: Path) -> None:
    text = "cat.jpg,3\ndog.jpg,1\n"
    source = table(tmp_path, text, columns=("file", "label"), header=False)
    assert rows(source)[0] == {"file": "cat.jpg", "label": 3}
    assert source.notes == ()
    assert rows(table(tmp_path, "a,b\n1,2\n", columns=("x", "y"), header=True)) == [{"x": 1, "y": 2}]
    assert rows(table(tmp_path, "a,b\n1,2\n", columns=("a", "b"))) == [{"a": 1, "b": 2}]
    with pytest.raises(SourceError, match="the first line may as well"):
        table(tmp_path, "a,b\n1,2\n", columns=("x", "y"))
    with pytest.raises(SourceError, match="names 1 column, the file has 2"):
        table(tmp_path, text, columns="x", header=False)


def test_lines_before_the_table_are_left_out_on_request(tmp_path: Path) -> None:
    text = "# made by hand\n\na,b,c\n1,2,3\n"
    with pytest.raises(SourceError, match=r"the first line has 1 cell, those below it have 3; .*--skip-lines 1"):
        table(tmp_path, text)
    source = table(tmp_path, text, skip_lines=1)
    assert list(source.read([0])) == [("t.csv line 4", {"a": 1, "b": 2, "c": 3})]


@pytest.mark.parametrize(
    ("cells", "field", "values", "note"),
    [
        (["1", "NA", ""], Scalar("int64", optional=True), [1, None, None], "'NA' is taken as missing in 'x'"),
        (["1", "NaN"], Scalar("int64", optional=True), [1, None], "'NaN' is taken as missing in 'x'"),
        (["1.5", " null ", "None"], Scalar("float64", optional=True), [1.5, None, None], "'null' is taken as missing"),
        (["true", "N/A"], Scalar("bool", optional=True), [True, None], "'N/A' is taken as missing in 'x'"),
        (["NA", "NULL"], Text(optional=True), [None, None], "'NULL' is taken as missing in 'x'"),
        (["a", "NA", ""], Text(), ["a", "NA", ""], "'NA' is kept as text in 'x'; missing='NA' (--missing)"),
        (["1", "2", "?"], Text(), ["1", "2", "?"], "'x' is text: '?' in line 4 is no number that is kept exactly"),
        (["1.5", "2", "007"], Text(), ["1.5", "2", "007"], "'x' is text: '007' in line 4"),
    ],
)
def test_missing_cells_of_numbers_are_missing(
    tmp_path: Path, cells: list[str], field: Any, values: list[Any], note: str
) -> None:
    source = table(tmp_path, "x,k\n" + "".join(f"{cell},k\n" for cell in cells))
    assert source.schema["x"] == field
    assert [row["x"] for row in rows(source)] == values
    assert noted(source, note)


def test_stray_cell_is_found_far_down(tmp_path: Path) -> None:
    source = table(tmp_path, "x\n" + "1\n" * 9000 + "-\n")
    assert noted(source, "'x' is text: '-' in line 9002")
    assert table(tmp_path, "x\n" + "1\n" * 9000 + "-\n", missing="-").schema["x"] == Scalar("int64", optional=True)


def test_given_missing_cells_are_missing_in_text(tmp_path: Path) -> None:
    source = table(tmp_path, "s,n,f\na,1,1.5\n?,?,nan\n,NA,?\n", missing=("?", ""))
    assert dict(source.schema) == {
        "s": Text(optional=True),
        "n": Scalar("int64", optional=True),
        "f": Scalar("float64", optional=True),
    }
    first, second, third = rows(source)
    assert (first["s"], second["s"], third["s"]) == ("a", None, None)
    assert (second["n"], third["n"], third["f"]) == (None, None, None)
    assert second["f"] != second["f"]


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ";;"},
        {"delimiter": '"'},
        {"encoding": "rot13"},
        {"encoding": "no such"},
        {"header": 1},
        {"quotes": "no"},
        {"columns": ("a", "a")},
        {"columns": (1, 2)},
        {"skip_lines": -1},
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match=next(iter(options))):
        TableOptions(**options)


def test_options_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="are for CSV and TSV"):
        table(tmp_path, '{"a": 1}\n', "t.jsonl", delimiter=",")


def test_options_change_the_fingerprint(tmp_path: Path) -> None:
    plain, other = table(tmp_path, "a\n1\n"), table(tmp_path, "a\n1\n", encoding="cp1250")
    assert plain.fingerprint().content != other.fingerprint().content
