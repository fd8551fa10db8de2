"""Datasets of torch and Hugging Face, tensors, and pictures of Pillow as sources."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from recordio import Array, Image, Scalar, SchemaError, ShardDataset, convert
from tests.writer.convert.makers import made


def picture(mode: str, seed: int = 1, size: tuple[int, int] = (12, 8)) -> Any:
    pixels = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (*size[::-1], 4), np.uint8)
    return Pillow.fromarray(pixels).convert(mode)


def stored(folder: Path, name: str = "image") -> list[bytes]:
    return [sample[name] for sample in ShardDataset(folder, decode=None)]


class TestPictures:
    def test_pictures_are_stored_as_png_without_loss(self, tmp_path: Path) -> None:
        pictures = [picture("RGB", seed) for seed in range(5)]
        report = made([{"image": one, "label": n} for n, one in enumerate(pictures)], tmp_path / "out")
        dataset = ShardDataset(tmp_path / "out")
        assert dict(dataset.schema) == {"image": Image("RGB"), "label": Scalar("int64")}
        assert all(data.startswith(b"\x89PNG") for data in stored(tmp_path / "out"))
        assert all(np.array_equal(dataset[n]["image"], np.asarray(one)) for n, one in enumerate(pictures))
        assert "image: pictures of Pillow, stored as their files if unchanged, else as PNG" in report.notes

    def test_an_unchanged_file_is_stored_as_it_is(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{n}.jpg" for n in range(4)]
        for n, path in enumerate(paths):
            picture("RGB", n).save(path, "JPEG")
        opened: list[Any] = list(map(Pillow.open, paths))
        opened[1].load()
        opened[2].thumbnail((4, 4))
        opened[3].putpixel((0, 0), (1, 2, 3))
        made([{"image": one} for one in opened], tmp_path / "out")
        found = stored(tmp_path / "out")
        assert found[:2] == [path.read_bytes() for path in paths[:2]]
        assert [data[:4] for data in found[2:]] == [b"\x89PNG"] * 2

    def test_the_mode_is_that_of_all_the_first_pictures(self, tmp_path: Path) -> None:
        for modes, mode in ((("L", "L"), "L"), (("L", "RGB"), "RGB"), (("RGB", "RGBA"), "RGBA"), (("1", "L"), "RGB")):
            out = tmp_path / "".join(modes)
            made([{"image": picture(one)} for one in modes], out)
            assert ShardDataset(out).schema["image"] == Image(mode)

    def test_a_later_picture_that_would_lose_its_colours_is_refused(self, tmp_path: Path) -> None:
        samples = [{"image": picture("L")}] * 70 + [{"image": picture("RGB")}]
        with pytest.raises(SchemaError, match=r"RGB would lose colours .* is 'L', as that of the first 64 samples"):
            made(samples, tmp_path / "out")
        made(samples, tmp_path / "out", schema={"image": Image()})
        assert len(ShardDataset(tmp_path / "out")) == 71

    def test_pictures_are_resized_as_those_of_files_are(self, tmp_path: Path) -> None:
        made([{"image": picture("RGB")}], tmp_path / "out", resize=4)
        assert ShardDataset(tmp_path / "out")[0]["image"].shape == (4, 6, 3)

    def test_pictures_of_a_dataset_of_ours_stay_the_files_that_they_are(self, tmp_path: Path) -> None:
        for n in range(3):
            (tmp_path / "in/a").mkdir(parents=True, exist_ok=True)
            picture("RGB", n).save(tmp_path / f"in/a/{n}.jpg")
        convert(tmp_path / "in", tmp_path / "first")
        made(ShardDataset(tmp_path / "first"), tmp_path / "second")
        assert stored(tmp_path / "second") == stored(tmp_path / "first")
        assert ShardDataset(tmp_path / "second").metadata == {"classes": ["a"]}
        changed = ShardDataset(tmp_path / "first").transform(image=np.negative)
        report = made(changed, tmp_path / "third")
        assert "begins anew" in report.notes[0]
        assert ShardDataset(tmp_path / "third").schema["image"] == Array("uint8", (8, 12, 3))


class TestTorch:
    def test_a_dataset_of_tuples_of_tensors(self, tmp_path: Path) -> None:
        x, y = torch.arange(60.0).reshape(20, 3), torch.arange(20)
        made(torch.utils.data.TensorDataset(x, y), tmp_path / "out", columns=("x", "y"))
        dataset = ShardDataset(tmp_path / "out")
        assert dict(dataset.schema) == {"x": Array("float32", (3,)), "y": Scalar("int64")}
        assert np.array_equal(dataset["x"], x.numpy())
        assert np.array_equal(dataset["y"], y.numpy())

    def test_a_subset_keeps_its_order(self, tmp_path: Path) -> None:
        data = torch.utils.data.TensorDataset(torch.arange(20))
        made(torch.utils.data.Subset(data, [5, 3, 9]), tmp_path / "out", columns="y")
        assert ShardDataset(tmp_path / "out")["y"].tolist() == [5, 3, 9]

    def test_an_iterable_dataset_is_read_as_a_stream(self, tmp_path: Path) -> None:
        class Numbers(torch.utils.data.IterableDataset[dict[str, int]]):
            def __iter__(self) -> Any:
                return iter([{"n": 1}, {"n": 2}])

        assert made(Numbers(), tmp_path / "out").samples == 2


class TestHuggingFace:
    def test_a_dataset_with_pictures(self, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        out = BytesIO()
        picture("RGB").save(out, "PNG")
        features = datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["a", "b"]),
                "t": datasets.Value("string"),
            }
        )
        rows = {"image": [{"bytes": out.getvalue(), "path": None}] * 5, "label": [0, 1, 0, 1, 1], "t": list("vwxyz")}
        source = datasets.Dataset.from_dict(rows, features=features)
        report = made(source, tmp_path / "out")
        dataset = ShardDataset(tmp_path / "out")
        assert np.array_equal(dataset[3]["image"], np.asarray(picture("RGB")))
        assert dataset["label"].tolist() == rows["label"]
        assert dataset["t"] == rows["t"]
        assert report.source == "Dataset of 5 inputs"
        assert dataset.metadata["classes"] == ["a", "b"]
        assert made(source, tmp_path / "out").done_before

    def test_a_streaming_dataset(self, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        source = datasets.Dataset.from_dict({"n": list(range(100))}).to_iterable_dataset()
        assert made(source, tmp_path / "out").samples == 100
