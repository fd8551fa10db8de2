"""Tokens in place of text: what the library makes of it, and blocks that hold every token once and in order."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from recordio import Array, MissingPackageError, SchemaError, ShardDataset, SourceError, convert
from recordio.writer.sources import Source, open_source
from recordio.writer.sources.tokens.text_options import TextOptions
from recordio.writer.sources.tokens.tokenized import Packed, tokenized
from tests.writer.convert.test_convert import contents, made
from tests.writer.sources.test_folders import fill, samples

DATA = Path(__file__).parents[2] / "data/formats/tokenizer"
FILE = DATA / "tokenizer.json"
EXPECTED = json.loads((DATA / "expected.json").read_text("utf-8"))


class Letters:
    """A tokenizer whose tokens are the letters of a text, which it refuses with an exclamation mark."""

    path, digest, vocabulary, notes, eos = "letters.json", "0", 256, (), None
    dtype = np.dtype("uint16")

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[Any]]:
        if any("!" in text for text in texts):
            raise SourceError("no exclamation marks")
        return [np.frombuffer(text.encode(), np.uint8).astype(np.uint16) for text in texts]


def lines(root: Path, texts: Sequence[str], name: str = "in.jsonl") -> str:
    rows = "".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(texts))
    return fill(root, {name: rows}) + f"/{name}"


def packed(path: str, length: int, *, skip: bool = False, limit: int | None = None) -> Packed:
    return Packed(open_source(path), Letters(), "text", length, skip, limit)  # type: ignore[arg-type]


def twice(text: str) -> list[dict[str, str]]:
    return [{"text": text}] * 2


def text_of(source: Source) -> str:
    return "".join(bytes(block["tokens"].astype(np.uint8)).decode() for block in samples(source))


class TestPacking:
    def test_blocks_are_cut_from_all_documents_in_order(self, tmp_path: Path) -> None:
        source = pickle.loads(pickle.dumps(packed(lines(tmp_path, ["abc", "", "de", "fghijk", "lm"]), 4)))
        assert dict(source.schema) == {"tokens": Array("uint16", (4,)), "documents": Array("int32", (4,))}
        assert text_of(source) == "abcdefghijkl"
        assert [block["documents"].tolist() for block in samples(source)] == [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
        assert "left out: the last 1 token, less than a block of 4" in source.notes
        assert "left out of the blocks, which hold tokens of several documents: n" in source.notes
        assert source.key(1) == "block 1, which begins in in.jsonl line 3"
        assert source.nbytes().tolist() == [24, 24, 24]

    def test_a_long_document_is_read_once_for_blocks_in_order(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = packed(lines(tmp_path, ["x" * 40]), 4)
        calls: list[int] = []
        encode = Letters.encode
        monkeypatch.setattr(Letters, "encode", lambda self, texts: calls.append(1) or encode(self, texts))
        assert text_of(source) == "x" * 40
        assert len(calls) == 1

    @given(texts=st.lists(st.text("abcdefgh", max_size=12), min_size=1, max_size=12), length=st.integers(2, 9))
    def test_every_token_is_in_its_place(
        self, tmp_path_factory: pytest.TempPathFactory, texts: list[str], length: int
    ) -> None:
        whole = "".join(texts)
        path = lines(tmp_path_factory.mktemp("packed"), texts)
        if len(whole) < length:
            with pytest.raises(SourceError, match="less than one block"):
                packed(path, length)
            return
        source = packed(path, length)
        assert text_of(source) == whole[: len(whole) // length * length]
        owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        for number, block in enumerate(samples(source)):
            of = owner[number * length : (number + 1) * length]
            assert block["documents"].tolist() == np.unique(of, return_inverse=True)[1].tolist()

    def test_a_document_that_cannot_be_read_stops_or_is_left_out(self, tmp_path: Path) -> None:
        path = lines(tmp_path, ["ab", "no!", "cd"])
        with pytest.raises(SourceError, match=r"no exclamation marks - in\.jsonl line 2"):
            packed(path, 2)
        source = packed(path, 2, skip=True)
        assert text_of(source) == "abcd"
        assert "left out: 1 document that cannot be read (in.jsonl line 2: no exclamation marks)" in source.notes

    def test_a_document_without_a_text_is_counted(self, tmp_path: Path) -> None:
        source = packed(fill(tmp_path, {"a.jsonl": '{"text": "abcd"}\n{"text": null}\n'}) + "/a.jsonl", 2)
        assert text_of(source) == "abcd"
        assert "left out: 1 document without a text" in source.notes

    def test_a_limit_reads_no_more_documents_than_it_needs(self, tmp_path: Path) -> None:
        path = lines(tmp_path, ["x" * 5000] * 500 + ["no!"])
        source = packed(path, 1000, limit=2)
        assert len(source) >= 2
        assert not any("the last" in note for note in source.notes)

    def test_blocks_of_the_same_documents_have_the_same_digest(self, tmp_path: Path) -> None:
        path = lines(tmp_path, ["abc", "defgh", "ijk"])
        source = packed(path, 4)
        one, two = np.array([0]), np.array([1])
        assert source.input_digest(one) == packed(path, 4).input_digest(one)
        assert source.input_digest(one) != source.input_digest(two)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"sequence_length": 8}, "sequence_length is for tokens"),
            ({"eos": "</s>"}, "eos is for tokens"),
            ({"text_field": "text"}, "text_field is for tokens"),
            ({"tokenizer": "t.json", "sequence_length": 1}, "sequence_length is 1"),
            ({"tokenizer": "t.json", "sequence_length": 8, "shuffle": 1}, "packed in the order"),
        ],
    )
    def test_options_that_do_not_fit_are_refused(self, tmp_path: Path, options: Any, message: str) -> None:
        with pytest.raises(SchemaError, match=message):
            convert(lines(tmp_path, ["a"]), tmp_path / "out", **options)

    @pytest.mark.parametrize(
        ("row", "field", "message"),
        [
            ({"a": "x", "b": "y"}, None, r"no field 'text' of text to make tokens of; text_field= .* one of a, b"),
            ({"n": 1}, None, "there is none"),
            ({"text": "x"}, "nowhere", "no field 'nowhere'"),
            ({"text": "x", "tokens": 1}, None, "a field 'tokens' already"),
        ],
    )
    def test_the_field_has_to_be_told_where_it_is_not_clear(
        self, tmp_path: Path, row: Any, field: str | None, message: str
    ) -> None:
        source = open_source(fill(tmp_path, {"a.jsonl": json.dumps(row)}) + "/a.jsonl")
        with pytest.raises(SchemaError, match=message):
            tokenized(source, TextOptions(FILE, field))

    def test_without_the_library_the_error_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'recordio-shards\[text\]'"):
            tokenized(open_source(lines(tmp_path, ["a"])), TextOptions(FILE))


class TestLibrary:
    """With Hugging Face's tokenizers."""

    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("tokenizers")

    def test_tokens_are_those_of_the_library(self, tmp_path: Path) -> None:
        source = pickle.loads(
            pickle.dumps(tokenized(open_source(lines(tmp_path, EXPECTED["texts"])), TextOptions(FILE)))
        )
        assert dict(source.schema)["tokens"] == Array("uint16", (None,))
        assert [row["tokens"].tolist() for row in samples(source)] == EXPECTED["ids"]
        assert [row["n"] for row in samples(source)] == list(range(len(EXPECTED["texts"])))
        assert source.metadata["tokenizer"]["vocabulary"] == 290
        assert "the tokenizer asks for truncation and padding, which is not done" in source.notes

    def test_the_end_of_a_text_is_marked_once(self, tmp_path: Path) -> None:
        source = tokenized(open_source(lines(tmp_path, EXPECTED["texts"])), TextOptions(FILE, eos="</s>"))
        ended = [ids if ids[-1] == 1 else [*ids, 1] for ids in EXPECTED["ids"]]
        assert [row["tokens"].tolist() for row in samples(source)] == ended
        assert source.metadata["tokenizer"]["eos"] == 1

    @pytest.mark.slow
    def test_any_number_of_workers_makes_the_same_bytes(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "in", EXPECTED["texts"] * 30)
        options: dict[str, Any] = {"tokenizer": FILE, "sequence_length": 16, "eos": "</s>", "shard_bytes": 5000}
        for workers in (1, 2, 5):
            report = made(path, tmp_path / f"{workers}", workers=workers, **options)
        assert report.shards > 2
        assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")
        tokens = ShardDataset(tmp_path / "1").column("tokens").reshape(-1)
        whole = [i for ids in EXPECTED["ids"] * 30 for i in (ids if ids[-1] == 1 else [*ids, 1])]
        assert tokens.tolist() == whole[: len(tokens)]
        assert len(whole) - len(tokens) < 16

    def test_names_of_files_stay_beside_tokens(self, tmp_path: Path) -> None:
        fill(tmp_path / "in", {"a/1.txt": "the fox", "b/2.txt": "the dog"})
        made(tmp_path / "in", tmp_path / "out", tokenizer=FILE)
        dataset = ShardDataset(tmp_path / "out", fields=["tokens", "label", "file"])
        assert [(s["label"], s["file"], s["tokens"][1]) for s in dataset] == [(0, "a/1.txt", 259), (1, "b/2.txt", 259)]
        made(tmp_path / "in", tmp_path / "packed", tokenizer=FILE, sequence_length=2)
        assert set(ShardDataset(tmp_path / "packed").schema) == {"tokens", "documents"}
        with pytest.raises(SchemaError, match="a block has tokens of several"):
            convert(tmp_path / "in", tmp_path / "no", tokenizer=FILE, sequence_length=2, keep_names=True)

    def test_texts_of_python_become_tokens(self, tmp_path: Path) -> None:
        texts = EXPECTED["texts"]
        made(texts, tmp_path / "list", columns="text", tokenizer=FILE)
        made(iter(texts), tmp_path / "stream", columns="text", tokenizer=FILE)
        made(texts, tmp_path / "twice", fn=twice, tokenizer=FILE)
        twofold = [ids for ids in EXPECTED["ids"] for _ in range(2)]
        for name, ids in (("list", EXPECTED["ids"]), ("stream", EXPECTED["ids"]), ("twice", twofold)):
            dataset = ShardDataset(tmp_path / name)
            assert [row["tokens"].tolist() for row in dataset] == ids
            assert dataset.metadata["tokenizer"]["vocabulary"] == 290
        made(texts * 9, tmp_path / "packed", columns="text", tokenizer=FILE, sequence_length=4)
        whole = [token for ids in EXPECTED["ids"] * 9 for token in ids]
        tokens = ShardDataset(tmp_path / "packed").column("tokens").reshape(-1).tolist()
        assert tokens == whole[: len(whole) // 4 * 4]
        with pytest.raises(SourceError, match="fn made 2 samples of this input, and packing needs one of each"):
            made(texts, tmp_path / "no", fn=twice, tokenizer=FILE, sequence_length=4)
        with pytest.raises(SchemaError, match="for sequence_length"):
            made(iter(texts), tmp_path / "no", columns="text", tokenizer=FILE, sequence_length=4)

    def test_another_tokenizer_makes_another_dataset(self, tmp_path: Path) -> None:
        path = lines(tmp_path, ["the fox"])
        made(path, tmp_path / "out", tokenizer=FILE)
        (tmp_path / "t.json").write_text(FILE.read_text("utf-8") + "\n", "utf-8")
        with pytest.raises(Exception, match="overwrite"):
            convert(path, tmp_path / "out", tokenizer=tmp_path / "t.json")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{}",
            b"[" * 100_000,
            b'{"model":{"type":"BPE","vocab":{},"merges":[]}}',
            b'{"model":{"type":"BPE","vocab":{"a":4294967295},"merges":[]}}',
            b'{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]}}',  # the library panics
        ],
    )
    def test_a_hostile_file_is_refused(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "t.json").write_bytes(data)
        with pytest.raises(SourceError, match=r"t\.json"):
            tokenized(open_source(lines(tmp_path, ["a"])), TextOptions(tmp_path / "t.json"))

    def test_a_token_that_is_none_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match=r"eos is '<end>'.*special tokens are '<s>', '</s>'"):
            tokenized(open_source(lines(tmp_path, ["a"])), TextOptions(FILE, eos="<end>"))

    def test_text_that_is_no_unicode_is_an_error_of_its_sample(self, tmp_path: Path) -> None:
        source = tokenized(
            open_source(fill(tmp_path, {"a.jsonl": '{"text": "\\ud800"}\n'}) + "/a.jsonl"), TextOptions(FILE)
        )
        (bad,) = samples(source)
        assert isinstance(bad, SourceError)
        assert "not valid Unicode" in str(bad)
