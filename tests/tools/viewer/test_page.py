"""The page that is one file."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

import recordio
from recordio.tools.viewer import page as page_module
from tests.photos import encode, photo
from tests.tools.viewer.conftest import ATTACK, Write
from tests.tools.viewer.html import Html


def test_pictures_stand_by_class_with_number_and_file(photos: Path, page: Write) -> None:
    found = Html(page(photos))
    assert re.findall(r"(ant|bee|cat) 30", found.text) == ["ant", "bee", "cat"]
    assert len(found.all("img")) == len(found.all("figure")) == 90
    assert '31 bee/it\'s "31".jpg' in found.text
    assert "all 90" in found.text


def test_a_picture_opens_at_full_size(photos: Path, page: Write) -> None:
    found = Html(page(photos, "--count", 3))
    links = found.all("a", class_="r-full")
    assert len(links) == 3
    data = recordio.ShardDataset(photos, decode=None)[0]["image"]
    assert links[0]["href"] == f"data:image/jpeg;base64,{b64encode(data).decode()}"


def test_pictures_over_the_limit_stay_thumbnails_and_it_is_said(
    photos: Path, page: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "FULL_NBYTES", 3 * len(recordio.ShardDataset(photos, decode=None)[0]["image"]))
    found = Html(page(photos, "--count", 10))
    assert len(found.all("img")) == 10
    left = len(found.all("a"))
    assert 0 < left < 5
    assert f"{10 - left} pictures are here as thumbnails alone" in found.text


def test_a_page_loads_nothing_from_elsewhere(photos: Path, page: Write) -> None:
    html = page(photos)
    found = Html(html)
    addresses = [one.get("src") or one.get("href") or "" for tag, one in found.elements if tag in ("img", "a", "link")]
    assert all(address.startswith("data:") for address in addresses)
    (policy,) = [one["content"] or "" for one in found.all("meta", **{"http-equiv": "Content-Security-Policy"})]
    assert policy.startswith("default-src 'none'; img-src data:; script-src 'sha256-")
    assert "http://" not in html
    assert "https://" not in html


def test_summaries_say_of_how_many_samples(texts: Path, page: Write) -> None:
    found = Html(page(texts, "--count", 20))
    assert "Fields of 1,000 samples, evenly spread" in found.text
    assert "Samples 20 of 3,000, evenly spread" in found.text
    assert "bad500" in found.text
    assert len(found.all("tr")) > 20


def test_html_in_data_stays_text(hostile: Path, page: Write) -> None:
    html = page(hostile)
    found = Html(html)
    assert len(found.all("script")) == 1
    assert not [one for _, one in found.elements if any(name.startswith("on") for name in one)]
    assert all((one["src"] or "").startswith("data:") for one in found.all("img"))
    for words in (ATTACK, f"text {ATTACK}", f"image {ATTACK}", "-1 (no such class)", "without a label", "<b>&'\".rio"):
        assert words in found.text
    assert "pwned" not in "".join(found.scripts)


def test_damaged_samples_are_marked_by_number_and_the_rest_is_there(
    damaged: Path, page: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Html(page(damaged, code=1))
    bad = int(re.findall(r"(\d+) samples? on it cannot be read whole", capsys.readouterr().out)[0])
    assert 0 < bad < 60
    assert len(found.all("span", class_="r-damaged")) == bad
    assert len(found.all("img")) == 90 - bad
    assert len(found.all("figure")) == 90
    assert re.search(
        r"samples [\d, ]+: page checksum mismatch: .* - shard-00000.rio, block \d+, field 'image'", found.text
    )
    assert f"cannot be read{bad} of 90" in found.text


def test_a_dataset_without_samples_or_with_missing_values_alone(tmp_path: Path, page: Write) -> None:
    schema = recordio.Schema({"image": recordio.Image(optional=True), "x": recordio.Scalar("float32", optional=True)})
    for count in (0, 3):
        with recordio.DatasetWriter(tmp_path / str(count), schema) as writer:
            for _ in range(count):
                writer.write({})
        found = Html(page(tmp_path / str(count)))
        assert f"all {count}" in found.text
        assert len(found.all("figure")) == count
    assert "missing3 of 3" in found.text


def test_each_split_is_a_section(photos: Path, tmp_path: Path, page: Write) -> None:
    (tmp_path / "both").mkdir()
    for name in ("test", "train"):
        (tmp_path / "both" / name).symlink_to(photos)
    found = Html(page(tmp_path / "both", "--count", 2))
    assert found.text.index("both / train") < found.text.index("both / test")
    assert len(found.all("img")) == 4


def test_of_very_many_fields_the_first_are_shown(tmp_path: Path, page: Write) -> None:
    with recordio.DatasetWriter(tmp_path / "wide") as writer:
        writer.write({f"f{k}": k for k in range(100)})
    assert "40 more fields are not shown: --fields names those to show" in Html(page(tmp_path / "wide")).text
    assert "f99" in Html(page(tmp_path / "wide", "--fields", "f99,f3")).text


def test_sixteen_bit_pictures_are_shown(tmp_path: Path, page: Write) -> None:
    with recordio.DatasetWriter(tmp_path / "deep") as writer:
        writer.write({"image": np.arange(600, dtype="u2").reshape(20, 30)})
    found = Html(page(tmp_path / "deep"))
    assert found.all("img", title="values 0 to 599, shown as black to white")


def test_classes_of_one_name_or_none_stay_apart(tmp_path: Path, page: Write) -> None:
    schema = recordio.Schema({"image": recordio.Image("L", (8, 8, 1)), "label": recordio.Scalar("uint8")})
    with recordio.DatasetWriter(tmp_path / "same", schema, metadata={"classes": ["a", "a", ""]}) as writer:
        for label in (0, 1, 2, 1):
            writer.write({"image": np.zeros((8, 8, 1), np.uint8), "label": label})
    found = re.findall(r'<div class="v-class"><h3>(.*?) <small>(.)</small>', page(tmp_path / "same"))
    assert found == [("a", "1"), ("a", "2"), ("2 (no name)", "1")]


@pytest.mark.parametrize("side", [20, 300])
def test_a_picture_that_does_not_decode_is_damage(side: int, tmp_path: Path, page: Write) -> None:
    good = encode(photo(side, side), "PNG")
    with recordio.DatasetWriter(tmp_path / "cut", recordio.Schema({"image": recordio.Image()})) as writer:
        for data in (good, good[: len(good) // 2], good):
            writer.write({"image": data})
    found = Html(page(tmp_path / "cut", code=1))
    assert re.search(r"Damaged\s*sample 1: the png file does not decode: .* - field 'image'", found.text)
    assert len(found.all("img")) == 2
