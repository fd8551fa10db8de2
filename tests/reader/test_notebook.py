"""How datasets show themselves in notebooks."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.reader import notebook, preview
from recordio.reader.preview import label_counts, looked_at, spread, stored_samples, stored_values
from tests.photos import encode, photo

ATTACK = "<script>alert(1)</script>"


class Elements(HTMLParser):
    """The elements and the text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data if self.tags[-1:] != ["style"] else ""


def write(path: Path, count: int = 40, **metadata: Any) -> Path:
    schema = recordio.Schema({"image": recordio.Image(), "label": recordio.Scalar("int64"), "name": recordio.Text()})
    with recordio.DatasetWriter(path, schema, metadata=metadata, block_bytes=4096, compression=None) as writer:
        for number in range(count):
            data = encode(photo(20, 30, number))
            writer.write({"image": data, "label": number % 2, "name": f"{number}{ATTACK}"})
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "pets", classes=["ant", ATTACK])


def damage(path: Path, content: bytes = b"\xff\xd8\xff") -> None:
    """Flips a bit of the first page with such content."""
    (shard,) = path.glob("*.rio")
    data = bytearray(shard.read_bytes())
    data[data.index(content) + 5] ^= 1
    shard.write_bytes(data)


def test_a_dataset_shows_its_size_fields_pictures_and_labels(path: Path) -> None:
    found = Elements(recordio.ShardDataset(path)._repr_html_())
    assert found.tags.count("img") == notebook.PICTURES
    assert "script" not in found.tags
    for words in (
        "40 samples",
        "imageimage (JPEG",
        "labelint64",
        "2 classes, counted in all samples",
        ATTACK,
        "ant",
    ):
        assert words in found.text


def test_every_kind_of_dataset_shows_itself(path: Path) -> None:
    ds = recordio.ShardDataset(path)
    views = [
        ds[3:9],
        ds.filter(label=1),
        ds + ds,
        recordio.Mixture([(ds, 1), (ds[:9], 2)]),
        ds.map(lambda s: s["label"]),
    ]
    for view in views:
        found = Elements(view._repr_html_())
        assert "img" in found.tags
        assert type(view).__name__ in found.text
        assert "r-damaged" not in found.text


def test_relabelled_classes_are_counted_by_their_joined_names(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", 4, classes=["a", "b"]), write(tmp_path / "2", 4, classes=["b", "c"])
    both = recordio.ConcatDataset([recordio.ShardDataset(one), recordio.ShardDataset(two)], relabel=True)
    assert label_counts(both, "label", 9) == ({0: 2, 1: 4, 2: 2}, 8)


def test_a_damaged_page_is_shown_by_name_and_the_rest_as_it_is(path: Path) -> None:
    damage(path)
    found = Elements(recordio.ShardDataset(path)._repr_html_())
    assert "page checksum mismatch" in found.text
    assert "shard-00000.rio, block 0, field 'image'" in found.text
    assert "img" in found.tags
    assert "counted in all samples" in found.text


def test_an_empty_dataset_and_one_of_many_fields(tmp_path: Path) -> None:
    schema = recordio.Schema({f"f{k}": recordio.Scalar("int8") for k in range(500)})
    with recordio.DatasetWriter(tmp_path / "wide", schema) as writer:
        writer.write(dict.fromkeys(schema, 1))
    found = Elements(recordio.ShardDataset(tmp_path / "wide")._repr_html_())
    assert "and 480 more fields" in found.text
    assert len(found.text) < 2000
    for fields in (schema, recordio.Schema({"image": recordio.Image()})):
        with recordio.DatasetWriter(tmp_path / f"empty{len(fields)}", fields):
            pass
        ds = recordio.ShardDataset(tmp_path / f"empty{len(fields)}")
        assert "0 samples" in Elements(ds._repr_html_()).text
        assert "0 samples of 0" in Elements(ds.show()._repr_html_()).text
        assert repr(ds.show()).startswith("0 samples of ")


def test_the_labels_of_a_large_dataset_are_a_sample_and_said_to_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "LABELS_COUNTED", 10)
    assert "counted in all samples" in recordio.ShardDataset(path)._repr_html_()  # the statistics say
    ds = recordio.ShardDataset(path).select(range(40))[1:]
    assert "counted in 10 of the samples, evenly spread" in ds._repr_html_()
    monkeypatch.setattr(preview, "_CHUNK_SAMPLES", 2)
    assert label_counts(ds, "label", 0)[1] == 2


def test_no_more_samples_are_read_than_are_shown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds, read = recordio.ShardDataset(path, fields=["image"]), []
    original = preview._read
    monkeypatch.setattr(preview, "_read", lambda *words: read.append(len(words[2])) or original(*words))
    ds._repr_html_()
    assert read == [notebook.PICTURES]


def test_show_gives_the_samples_as_the_dataset_does(path: Path) -> None:
    T = recordio.transforms
    steps = T.Compose([T.CenterCrop(16), T.ToTensor()])
    ds = recordio.ShardDataset(path).transform(image=steps)
    assert Elements(ds.show(5)._repr_html_()).tags.count("img") == 5
    lines = repr(ds.show(2)).splitlines()
    assert lines[0] == f"2 samples of {ds!r}"
    assert lines[1] == "sample 0"
    assert lines[2].startswith("  image  float32[3, 16, 16] min ")
    assert lines[3] == "  label  0 (ant)"
    assert str(ds.show(2)) == repr(ds.show(2))


@pytest.mark.parametrize("result", [(1, "two"), 3, None, {"a": np.zeros(3)}, object()])
def test_show_takes_whatever_a_map_returns(result: Any, path: Path) -> None:
    shown = recordio.ShardDataset(path).map(lambda sample: result).show(2)
    assert "r-damaged" not in Elements(shown._repr_html_()).text
    assert repr(shown).splitlines()[1] == "sample 0"


class Unsayable(Exception):
    def __str__(self) -> str:
        raise self

    __repr__ = __str__


class Unbound:
    """A proxy for an object that is not there."""

    __class__ = property(lambda self: 1 // 0)  # type: ignore[assignment]


def test_what_cannot_be_printed_blanks_nothing_else(path: Path) -> None:
    def odd(sample: Any) -> Any:
        if sample["name"].startswith("1"):
            raise Unsayable
        return {"image": sample["image"], "bad": Unsayable(), "proxy": Unbound(), "words": np.array(["a"])}

    shown = recordio.ShardDataset(path).map(odd).show(3)
    found = Elements(shown._repr_html_())
    assert found.tags.count("img") == 2
    for text in (found.text, repr(shown)):
        assert text.count("Unsayable that cannot be shown") == text.count("Unbound that cannot be shown") == 2
        assert text.count("<U1[1]: a") == 2


def test_keys_of_one_text_are_all_shown(path: Path) -> None:
    shown = recordio.ShardDataset(path).map(lambda sample: {1: "int", "1": "str", 2: "two"}).show(1)
    assert repr(shown).splitlines()[2:] == ['  1 (int)  "int"', '  1        "str"', '  2        "two"']


def test_tuples_have_the_names_of_their_fields(path: Path) -> None:
    shown = recordio.ShardDataset(path).tuples("name", "label").show(1)
    assert repr(shown).splitlines()[2:] == [f'  name   "0{ATTACK}"', "  label  0 (ant)"]


def test_an_error_of_a_map_is_shown_in_the_place_of_its_sample(path: Path) -> None:
    def fails(sample: Any) -> Any:
        if sample["name"].startswith("1"):
            raise ValueError(f"no {ATTACK}")
        return sample

    shown = recordio.ShardDataset(path).map(fails).show(3)
    found = Elements(shown._repr_html_())
    assert f"ValueError: no {ATTACK}" in found.text
    assert found.tags.count("img") == 2
    assert f"sample 1\n  ValueError: no {ATTACK}" in repr(shown)


def test_show_names_damage_and_refuses_a_wrong_number(path: Path) -> None:
    damage(path)
    shown = recordio.ShardDataset(path).show(1)
    assert "page checksum mismatch" in repr(shown)
    assert "page checksum mismatch" in shown._repr_html_()
    with pytest.raises(recordio.SchemaError, match="n is -1"):
        recordio.ShardDataset(path).show(-1)


def test_evenly_spread_indices_are_different_and_in_order() -> None:
    assert spread(3, 10).tolist() == [0, 1, 2]
    assert spread(10, 3).tolist() == [0, 3, 6]
    assert len(np.unique(spread(10**12, 4096))) == 4096


def test_stored_values_are_read_around_damage(path: Path) -> None:
    damage(path)
    ds = recordio.ShardDataset(path)
    values = stored_values(ds, "image", np.arange(40))
    bad = [k for k, value in enumerate(values) if isinstance(value, preview.Damaged)]
    assert bad == list(range(len(bad)))
    assert 0 < len(bad) < 40
    assert values[-1] == encode(photo(20, 30, 39))
    samples = dict(stored_samples(ds, ["image", "name"], np.array([0, 39])))
    assert samples[0]["name"] == f"0{ATTACK}"
    assert samples[39]["image"] == values[-1]


def test_fewer_large_samples_are_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = recordio.ShardDataset(path)
    assert len(looked_at(ds, 1000)) == 40
    monkeypatch.setattr(preview, "_MOST_NBYTES", 1)
    assert len(looked_at(ds, 1000)) == 16
