"""Tables in other encodings, compressed, or with other newlines: read as text in UTF-8, in any process."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

import recordio
from recordio import SourceError
from recordio.writer.sources import Source, SourceOptions, TableOptions, open_source
from recordio.writer.sources.archives import compression
from recordio.writer.sources.tables import text_file

CSV = "n,word\n1,café\n2,naïve\n"
ROWS = [{"n": 1, "word": "café"}, {"n": 2, "word": "naïve"}]
PACK: dict[str, Any] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.compress}


def table(tmp_path: Path, data: bytes, name: str = "t.csv", encoding: str | None = None) -> Source:
    (tmp_path / name).write_bytes(data)
    return open_source(tmp_path / name, options=SourceOptions(table=TableOptions(encoding=encoding)))


def rows(source: Source) -> list[Any]:
    return [item for _, item in source.read(range(len(source)))]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    assert rows(table(tmp_path, CSV.encode(encoding))) == ROWS
    lines = '{"n": 1, "word": "café"}\n{"n": 2, "word": "naïve"}\n'
    assert rows(table(tmp_path, lines.encode(encoding), "t.jsonl")) == ROWS


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-be", "cp037", "gb18030"])
def test_encoding_is_an_option(tmp_path: Path, encoding: str) -> None:
    source = table(tmp_path, "n,word\n1,cafe\n2,naive\n".encode(encoding), encoding=encoding)
    assert [row["word"] for row in rows(source)] == ["cafe", "naive"]
    assert source.key(1) == "t.csv line 3"


def test_letters_alike_in_all_latin_encodings_are_read(tmp_path: Path) -> None:
    source = table(tmp_path, "n,word\n1,café\n2,Größe\n".encode("latin-1"))
    assert [row["word"] for row in rows(source)] == ["café", "Größe"]
    assert "not UTF-8 (line 2): read as cp1252; encoding= (--encoding)" in source.notes[0]
    assert list(table(tmp_path, "né\n1\n".encode("latin-1")).schema) == ["né"]


@pytest.mark.parametrize(
    ("word", "encoding"), [("mère", "cp1252"), ("číslo", "cp1250"), ("привет", "cp1251"), ("10 €", "cp1252")]
)
def test_uncertain_encoding_fails_the_row_and_names_the_option(tmp_path: Path, word: str, encoding: str) -> None:
    data = f"n,word\n1,{word}\n2,x\n".encode(encoding)
    bad, good = rows(table(tmp_path, data))
    assert good["word"] == "x"
    assert str(bad).endswith("encoding= (--encoding) says what it is - t.csv line 2")
    assert f"{word.split()[-1]}' in {encoding}" in str(bad)
    assert rows(table(tmp_path, data, encoding=encoding))[0]["word"] == word


def test_header_in_an_uncertain_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"not UTF-8: .* - t.csv line 1"):
        table(tmp_path, "mère,n\n1,2\n".encode("cp1252"))


def test_damaged_utf8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    good, bad = rows(table(tmp_path, "n,word\n1,café\n".encode() + b"2,caf\xe9\n"))
    assert good["word"] == "café"
    assert bad.place.file == "t.csv line 3"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (CSV.encode("utf-16-le"), r"encoding='utf-16-le' \(--encoding utf-16-le\)"),
        (CSV.encode("utf-16")[:-1], "line 3 is not utf-16: truncated data"),
        (b"PK\x03\x04 and more", "a zip archive or an .xlsx workbook"),
        (gzip.compress(CSV.encode(), mtime=0)[:-9], "the gzip data cannot be read to its end"),
        (zstandard.compress(CSV.encode())[:-3], "the zstd data cannot be read to its end"),
        (lzma.compress(CSV.encode())[:-3], "the xz data cannot be read to its end"),
        (b"BZh91AY&SY and no more", "the bzip2 data cannot be read to its end"),
    ],
)
def test_files_that_are_no_text_are_refused_by_name(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message + r".* - .*t.csv"):
        table(tmp_path, data)


@pytest.mark.parametrize("packed", PACK)
def test_compressed_tables_are_unpacked(tmp_path: Path, packed: str) -> None:
    pack = PACK[packed]
    source = table(tmp_path, pack(CSV[:12].encode()) + pack(CSV[12:].encode()), f"t.csv.{packed}")
    assert rows(source) == ROWS
    assert source.notes == (f"unpacked, as it is {compression.packed_with(pack(b'text'))}",)
    assert rows(table(tmp_path, pack(b'{"n": 1}\n'), f"t.jsonl.{packed}")) == [{"n": 1}]
    assert rows(table(tmp_path, pack(CSV.encode("utf-16")), "t.csv")) == ROWS  # the content tells, not the name


def test_compressed_tables_are_splits(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(CSV.encode(), mtime=0))
    reports = recordio.convert(tmp_path, tmp_path.parent / "splits")
    assert isinstance(reports, dict)
    assert set(reports) == {"train", "test"}


def test_text_beginning_like_bzip2_is_text(tmp_path: Path) -> None:
    assert rows(table(tmp_path, b"BZh,b\n1,2\n")) == [{"BZh": 1, "b": 2}]


def test_another_process_opens_the_unpacked_file_or_unpacks_its_own(tmp_path: Path) -> None:
    source: Any = table(tmp_path, gzip.compress(CSV.encode(), mtime=0), "t.csv.gz")
    assert rows(pickle.loads(pickle.dumps(source))) == ROWS
    elsewhere = pickle.loads(pickle.dumps(source))
    elsewhere._file._scratch = replace(elsewhere._file._scratch, process=2**22 + 1)
    assert rows(elsewhere) == ROWS
    other = pickle.loads(pickle.dumps(source))
    other._file._scratch = replace(other._file._scratch, identity=(0, 0, 0))
    assert rows(other) == ROWS


def test_conversion_by_processes_equals_that_by_one(tmp_path: Path) -> None:
    text = "n,s\n" + "".join(f"{n},{'é' * (n % 70)}\n" for n in range(3000))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode("utf-16"), mtime=0))
    for workers in (1, 2):
        recordio.convert(tmp_path / "t.csv.gz", tmp_path / f"out{workers}", workers=workers, shard_bytes=50_000)
    one, two = (recordio.ShardDataset(tmp_path / f"out{workers}") for workers in (1, 2))
    assert list(one) == list(two)
    assert [row["n"] for row in one] == list(range(3000))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_any_newline_ends_a_row(tmp_path: Path, newline: str) -> None:
    text = f'n,word{newline}1,"a{newline}b"{newline}{newline}  {newline}2,c{newline}'
    source = table(tmp_path, text.encode())
    assert list(source.read([1, 0])) == [
        ("t.csv line 6", {"n": 2, "word": "c"}),
        ("t.csv line 2", {"n": 1, "word": f"a{newline}b"}),
    ]
    lines = newline.join(['{"n": 1}', "", '{"n": 2}'])
    assert list(table(tmp_path, lines.encode(), "t.jsonl").read([1])) == [("t.jsonl line 3", {"n": 2})]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_lines_are_the_same_however_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    data = b"ab\r\ncd\r\rlonger line\n\n\re\r\n\r\nlast"
    (tmp_path / "t").write_bytes(data)
    monkeypatch.setattr(text_file, "_CHUNK", chunk)
    assert list(text_file.TextFile(str(tmp_path / "t")).lines()) == data.splitlines(keepends=True)
