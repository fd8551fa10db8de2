"""CSV, TSV and JSON Lines: where rows begin, which types columns get, and which files a cell may name."""

from __future__ import annotations

import csv
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from recordio import Array, Bytes, Image, Object, Scalar, SourceError, Text
from recordio.format.fields import Field
from recordio.writer.sources import Source, SourceOptions, open_source

PNG = b"\x89PNG\r\n\x1a\n and more"


def table(tmp_path: Path, text: str | bytes, name: str = "t.csv", embed: tuple[str, ...] = ()) -> Source:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return open_source(path, options=SourceOptions(embed=embed))


def rows(source: Source) -> list[Any]:
    return [item for _, item in source.read(range(len(source)))]


@pytest.mark.parametrize(
    ("cells", "field", "values"),
    [
        (["1", "-2", "0"], Scalar("int64"), [1, -2, 0]),
        (["1", "", "3"], Scalar("int64", optional=True), [1, None, 3]),
        (["9223372036854775807"], Scalar("int64"), [2**63 - 1]),
        (["9223372036854775808"], Text(), ["9223372036854775808"]),
        (["007", "1"], Text(), ["007", "1"]),
        (["1_000"], Text(), ["1_000"]),
        (["٣"], Text(), ["٣"]),
        ([" 1", "2 ", "3"], Scalar("int64"), [1, 2, 3]),
        ([" 1.5", "\t2"], Scalar("float64"), [1.5, 2.0]),
        ([" true", "False "], Scalar("bool"), [True, False]),
        ([" a", "b "], Text(), [" a", "b "]),
        (["1", "2.5", "-1e3", ".5", "5."], Scalar("float64"), [1.0, 2.5, -1000.0, 0.5, 5.0]),
        (["1e5", "+inf", "-Infinity"], Scalar("float64"), [1e5, float("inf"), -float("inf")]),
        (["00.5"], Text(), ["00.5"]),
        (["1.5", "12345678901234567"], Text(), ["1.5", "12345678901234567"]),
        (["1.5", "12345678901234568"], Scalar("float64"), [1.5, 12345678901234568.0]),
        (["true", "False", "TRUE"], Scalar("bool"), [True, False, True]),
        (["true", ""], Scalar("bool", optional=True), [True, None]),
        (["true", "1"], Text(), ["true", "1"]),
        (["a", ""], Text(), ["a", ""]),
        (['"1\n2"'], Text(), ["1\n2"]),
        (['"a ""b"" c"'], Text(), ['a "b" c']),
    ],
)
def test_column_has_the_narrowest_type_that_keeps_every_cell(
    tmp_path: Path, cells: list[str], field: Field, values: list[Any]
) -> None:
    source = table(tmp_path, "x,k\n" + "".join(f"{cell},k\n" for cell in cells))
    assert source.schema["x"] == field
    assert [row["x"] for row in rows(source)] == values


def test_column_type_considers_the_whole_file(tmp_path: Path) -> None:
    source = table(tmp_path, "x\n" + "1\n" * 9000 + "a\n")
    assert dict(source.schema) == {"x": Text()}


def test_number_too_large_for_a_float_is_an_error(tmp_path: Path) -> None:
    good, bad = rows(table(tmp_path, "x\n1.5\n1.0e999\n"))
    assert good == {"x": 1.5}
    assert str(bad) == "'1.0e999' is too large for a float64 - t.csv line 3"


def test_random_rows_survive_quoted_newlines_and_blank_lines(tmp_path: Path) -> None:
    source = table(tmp_path, '\ufeffn,s\r\n1,"a\r\n\r\nb"\r\n\r\n2,"c,\nd"\n\n\n3,e')
    found = dict(pickle.loads(pickle.dumps(source)).read([2, 0, 1, 2]))
    assert found == {
        "t.csv line 2": {"n": 1, "s": "a\r\n\r\nb"},
        "t.csv line 6": {"n": 2, "s": "c,\nd"},
        "t.csv line 10": {"n": 3, "s": "e"},
    }


def test_rows_equal_those_of_the_csv_module(tmp_path: Path) -> None:
    text = "a,b\n" + "".join(f'{n},"{"x" * (n % 50)}\n{n}"\n' for n in range(20_000))
    source = table(tmp_path, text)
    expected = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [{"a": str(row["a"]), "b": row["b"]} for row in rows(source)] == expected
    assert source.nbytes().sum() == len(text) - len("a,b\n")


def test_cell_may_exceed_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    source = table(tmp_path, "s,n\n" + "x" * 300_000 + ",1\n")
    assert len(rows(source)[0]["s"]) == 300_000
    assert csv.field_size_limit() == before


def test_tabs_and_semicolons_separate_cells(tmp_path: Path) -> None:
    assert rows(table(tmp_path, "a\tb\n1\tx,y\n", "t.tsv")) == [{"a": 1, "b": "x,y"}]
    assert rows(table(tmp_path, 'a;b\n"1,5";2\n')) == [{"a": "1,5", "b": 2}]


KEPT, QUOTING, SPANS = "kept as characters", "the quotes around cells are taken as quoting", "spans several lines"


@pytest.mark.parametrize(
    ("text", "expected", "note"),
    [
        ('1\t"hello\n2\tworld\n3\tbye"\n4\tx\n', ['"hello', "world", 'bye"', "x"], KEPT),
        ('1\t"Hello" he said\n2\tworld\n', ['"Hello" he said', "world"], KEPT),
        ('1\t"Hello" he said\n2\t"whole"\n', ['"Hello" he said', '"whole"'], KEPT),
        ('1\t"never closed\n2\tx\n', ['"never closed', "x"], KEPT),
        ('1\t5" disc\n2\tsay "no"\n', ['5" disc', 'say "no"'], None),
        ('1\t"Hello"\n2\tworld\n', ["Hello", "world"], QUOTING),
        ('"1"\t"a\tb"\r\n"2"\t"x"\r\n', ["a\tb", "x"], None),
        ('1\t"a ""b"""\n2\tx\n', ['a "b"', "x"], None),
        ('1\t"one\ntwo"\n\n2\t"x"\n', ["one\ntwo", "x"], SPANS),
        ("1\ta\n\n2\tb", ["a", "b"], None),
    ],
)
def test_whole_file_decides_tsv_quoting(tmp_path: Path, text: str, expected: list[str], note: str | None) -> None:
    for bom in ("", "\ufeff"):
        source = pickle.loads(pickle.dumps(table(tmp_path, f"{bom}id\ttext\n" + text, "t.tsv")))
        assert [row["text"] for row in rows(source)] == expected
        assert len(source.notes) == (note is not None)
        assert all(note in found for found in source.notes if note)


def test_quote_swallows_no_tsv_rows(tmp_path: Path) -> None:
    """A bad row leaves only the quoted reading even; a tab in a multi-line cell rules that out too."""
    first, bad, third, fourth = rows(table(tmp_path, 'id\ttext\n1\t"hello\nbad\n3\tbye"\n4\tx\n', "t.tsv"))
    assert (first["text"], third["text"], fourth["text"]) == ('"hello', 'bye"', "x")
    assert "the row has 1 cell," in str(bad)


def test_stray_tsv_quote_is_not_followed_to_the_end(tmp_path: Path) -> None:
    source = table(tmp_path, 'id\ttext\n1\t"a\nbad\n' + "2\tx\n" * 20_000 + '3\tb"\n', "t.tsv")
    assert len(source) == 20_003


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"1,2,3", "the row has 3 cells, the table 2 columns"),
        (b"1", "the row has 1 cell, the table 2 columns; on_error='skip'"),
        (b'"1"x,2', "the row cannot be read"),
        (b"\xff,2", "the row is not UTF-8"),
    ],
)
def test_bad_csv_row_fails_its_sample(tmp_path: Path, row: bytes, message: str) -> None:
    good, bad, last = rows(table(tmp_path, b"a,b\n1,2\n" + row + b"\n3,4\n"))
    assert (good, last) == ({"a": 1, "b": 2}, {"a": 3, "b": 4})
    assert message in bad.fault
    assert bad.place.file == "t.csv line 3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a,b\n", "no rows"),
        ("a,b\n\n\n", "no rows"),
        ('a\n1\n"2\n3\n4\n', "a quote is not closed .* t.csv line 3"),
    ],
)
def test_invalid_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        table(tmp_path, text)


def test_truncated_table_is_an_error(tmp_path: Path) -> None:
    source = table(tmp_path, "a\n1\n2\n")
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert "changed" in str(rows(source)[1])


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (["1", "2"], Scalar("int64")),
        (["1", "null"], Scalar("int64", optional=True)),
        (["1", "2.5"], Scalar("float64")),
        (["9007199254740993", "2.5"], Object()),
        (["18446744073709551615"], Object()),
        (["true", "false"], Scalar("bool")),
        (["true", "1"], Object()),
        (['"a"', '"b"'], Text()),
        (['"a"', "1"], Object()),
        (["[1, 2]", "[3, 4]"], Array("int64", (2,))),
        (["[1, 2]", "[3]", "[]"], Array("int64", (None,))),
        (["[[1.5, 2.0]]", "[[3.0, 4.0]]"], Array("float64", (1, 2))),
        (["[[1, 2], [3]]"], Object()),
        (["[1, null]"], Object()),
        (["[]"], Object()),
        (["[1]", "[1.5]"], Array("float64", (1,))),
        (["[1, 2.5]", "[]"], Array("float64", (None,))),
        (["[[1, 2.5]]", "[[3, 4]]"], Array("float64", (1, 2))),
        (["[9007199254740993]", "[2.5]"], Object()),
        (["[true]", "[1]"], Object()),
        (["[1]", "2.5"], Object()),
        (["[[]]", "[[]]"], Object()),
        (['{"a": [1]}', "[1]"], Object()),
        (["null"], Object(optional=True)),
    ],
)
def test_json_type_keeps_every_value(tmp_path: Path, values: list[str], field: Field) -> None:
    source = table(tmp_path, "".join(f'{{"x": {value}, "k": 1}}\n' for value in values), "t.jsonl")
    assert dict(source.schema) == {"x": field, "k": Scalar("int64")}
    assert len(rows(source)) == len(values)


def test_key_missing_from_some_rows_is_optional(tmp_path: Path) -> None:
    source = table(tmp_path, '\ufeff{"a": 1}\n\n{"b": "x"}\n', "t.jsonl")
    assert dict(source.schema) == {"a": Scalar("int64", optional=True), "b": Text(optional=True)}
    assert list(source.read([1, 0])) == [("t.jsonl line 3", {"b": "x"}), ("t.jsonl line 1", {"a": 1})]


@pytest.mark.parametrize("line", [b'{"a": ', b"[1]", b'{"a": "\xff"}', b"[" * 100_000])
def test_bad_json_line_fails_its_sample(tmp_path: Path, line: bytes) -> None:
    good, bad = rows(table(tmp_path, b'{"a": 1}\n' + line + b"\n", "t.jsonl"))
    assert good == {"a": 1}
    assert isinstance(bad, SourceError)
    assert bad.place.file == "t.jsonl line 2"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1e400}', "1e400 is too large for a float64"),
        ('{"a": [[1, -2.5E+0999]]}', "-2.5E+0999 is too large for a float64"),
        ('{"a": ' + "1" * 250 + ".5e99}", "is too large for a float64"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice in an object"),
        ('{"a": {"b": 1, "\\u0062": 1}}', "the key 'b' stands twice in an object"),
        ('{"a": ' + "1" * 5000 + "}", "a number of 5000 digits"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper than 512 levels"),
        ('{"a": ' + "[" * 512 + "]" * 512 + "}", "nested deeper than 512 levels"),
    ],
)
def test_lossy_json_value_fails_its_line(tmp_path: Path, line: str, message: str) -> None:
    good, bad = rows(table(tmp_path, '{"a": 1}\n' + line + "\n", "t.jsonl"))
    assert good == {"a": 1}
    assert isinstance(bad, SourceError)
    assert message in str(bad)
    assert bad.place.file == "t.jsonl line 2"


def test_large_json_numbers_that_fit_are_kept(tmp_path: Path) -> None:
    values = [1e300, 1.7976931348623157e308, 1e-400, 12345.678e100]
    source = table(tmp_path, "".join(f'{{"a": {value!r}}}\n' for value in values), "t.jsonl")
    assert [row["a"] for row in rows(source)] == values


def test_json_nan_and_infinity_are_kept(tmp_path: Path) -> None:
    source = table(tmp_path, '{"a": NaN, "o": [null, NaN]}\n{"a": -Infinity, "o": 1}\n', "t.jsonl")
    assert source.schema["a"] == Scalar("float64")
    first, second = rows(source)
    assert math.isnan(first["a"])
    assert math.isnan(first["o"][1])
    assert second == {"a": -math.inf, "o": 1}


@pytest.mark.parametrize("depth", [33, 300, 511])
def test_lists_too_deep_for_an_array_are_objects(tmp_path: Path, depth: int) -> None:
    source = table(tmp_path, '{"a": ' + "[" * depth + "1" + "]" * depth + "}\n", "t.jsonl")
    assert source.schema["a"] == Object()


@pytest.mark.parametrize("text", ["", "\n\n", "[1]\n"])
def test_json_lines_without_an_object_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError):
        table(tmp_path, text, "t.jsonl")


class TestEmbedding:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "in/sub").mkdir(parents=True)
        (tmp_path / "in/a.png").write_bytes(PNG)
        (tmp_path / "in/sub/b.png").write_bytes(PNG + b"!")
        (tmp_path / "in/c.bin").write_bytes(b"c")
        (tmp_path / "secret.png").write_bytes(PNG)
        return tmp_path / "in"

    def test_embedded_image_replaces_its_name(self, folder: Path) -> None:
        source = table(folder, "f,n\na.png,1\nsub/b.png,2\n", embed=("f",))
        assert dict(source.schema) == {"f": Image(), "n": Scalar("int64")}
        assert rows(source) == [{"f": PNG, "n": 1}, {"f": PNG + b"!", "n": 2}]
        assert source.nbytes().tolist() == [len("a.png,1\n") + len(PNG), len("sub/b.png,2\n") + len(PNG) + 1]

    def test_embedded_files_are_bytes_and_empty_names_are_missing(self, folder: Path) -> None:
        source = table(folder, '{"f": "c.bin"}\n{"f": "a.png"}\n{"n": 1}\n', "t.jsonl", embed=("f",))
        assert source.schema["f"] == Bytes(optional=True)
        assert [row.get("f") for row in rows(source)] == [b"c", PNG, None]

    @pytest.mark.parametrize(
        "name", ["../secret.png", "sub/../a.png", "sub/../../secret.png", "/etc/hostname", "link.png", "out/secret.png"]
    )
    def test_embedded_name_outside_the_folder_is_refused(self, folder: Path, name: str) -> None:
        (folder / "link.png").symlink_to(folder.parent / "secret.png")
        (folder / "out").symlink_to(folder.parent)
        good, bad = rows(table(folder, f"f\na.png\n{name}\n", embed=("f",)))
        assert good["f"] == PNG
        assert "leads out of the table's folder" in bad.fault
        assert (bad.place.file, bad.place.field) == ("t.csv line 3", "f")

    def test_irregular_embedded_files_fail_their_rows(self, folder: Path) -> None:
        os.mkfifo(folder / "pipe")
        (folder / "gone").symlink_to("nothing")
        found = rows(table(folder, "f\nc.bin\nno\nsub\npipe\ngone\n", embed=("f",)))
        assert found[0] == {"f": b"c"}
        assert all(isinstance(row, SourceError) for row in found[1:])

    def test_unknown_embed_column_is_refused(self, folder: Path) -> None:
        with pytest.raises(SourceError, match="no column named 'g' to embed; there are f"):
            table(folder, "f\na.png\n", embed=("g",))

    def test_touched_embedded_file_changes_the_fingerprint(self, folder: Path) -> None:
        before = table(folder, "f\na.png\n", embed=("f",)).fingerprint()
        (folder / "a.png").write_bytes(PNG + b"more")
        assert table(folder, "f\na.png\n", embed=("f",)).fingerprint().content != before.content
