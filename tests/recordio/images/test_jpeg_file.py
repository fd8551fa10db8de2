"""PIL pictures opened from a JPEG keep its bytes; nothing else does, whatever was done to it."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from recordio import DatasetWriter, ShardDataset
from recordio.images.jpeg_file import jpeg_file
from tests.recordio.images.pictures import PICTURES, photo

JPEGS = [name for name in PICTURES if name.startswith("jpeg") and "after its end" not in name]


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("name", JPEGS)
def test_unchanged_picture_of_a_file_keeps_its_bytes(tmp_path: Path, name: str, loaded: bool) -> None:
    (tmp_path / "a.jpg").write_bytes(PICTURES[name])
    with Image.open(tmp_path / "a.jpg") as picture:
        if loaded:
            picture.load()
        before = picture.copy().tobytes() if loaded else None
        assert jpeg_file(picture) == PICTURES[name]
        assert before in (None, picture.tobytes())


def test_picture_from_memory_keeps_its_bytes_until_it_is_loaded() -> None:
    assert jpeg_file(Image.open(BytesIO(PICTURES["jpeg"]))) == PICTURES["jpeg"]
    loaded = Image.open(BytesIO(PICTURES["jpeg"]))
    loaded.load()
    assert jpeg_file(loaded) is None


def test_changed_pictures_do_not(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(PICTURES["jpeg"])
    drawn = Image.open(path)
    ImageDraw.Draw(drawn).point((3, 3), (1, 2, 3))
    smaller = Image.open(path)
    smaller.draft("L", (10, 10))
    replaced = Image.open(path)
    replaced.load()
    path.write_bytes(PICTURES["jpeg, 4:2:2"])
    for picture in (drawn, smaller, replaced, photo(), drawn.copy(), Image.open(path).resize((4, 4))):
        assert jpeg_file(picture) is None
    gone = Image.open(path)
    gone.load()
    path.unlink()
    assert jpeg_file(gone) is None


def test_damaged_jpeg_that_pillow_reads_is_not_kept(tmp_path: Path) -> None:
    data = PICTURES["jpeg"]
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 3 // 4] + b"\xff\xd9")
    assert jpeg_file(Image.open(tmp_path / "a.jpg")) is None


def test_writer_stores_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PICTURES["jpeg"])
    with DatasetWriter(tmp_path / "out") as writer, Image.open(tmp_path / "a.jpg") as picture:
        writer.write({"image": picture})
        writer.write({"image": photo()})
    kept, coded = (sample["image"] for sample in ShardDataset(tmp_path / "out", decode=None))
    assert kept == PICTURES["jpeg"]
    assert coded.startswith(b"\x89PNG")
    np.testing.assert_array_equal(ShardDataset(tmp_path / "out")[1]["image"], np.array(photo()))
