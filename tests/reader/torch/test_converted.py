"""Converted datasets under torchvision's names, and folders that are not converted."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DatasetError, SchemaError
from recordio.torch import CIFAR10, CIFAR100, MNIST, DataLoader, ImageFolder
from recordio.transforms import ToTensor
from tests.reader.torch.test_datasets import message, png, write
from tests.writer.sources.test_arrays import idx


def command(text: str) -> list[str]:
    """The arguments of the command in a message."""
    found = re.search("`(.*?)`", text)
    assert found
    start, verb, *arguments = shlex.split(found[1])
    assert (start, verb) == ("recordio", "convert")
    return arguments


class TestFolders:
    def test_a_folder_that_is_not_converted_is_refused_with_the_command(self, tmp_path: Path) -> None:
        for n in range(4):
            file = tmp_path / "my photos" / ("ant", "bee")[n % 2] / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(n))
        text = message(DatasetError, ImageFolder, tmp_path / "my photos/")
        source, made = command(text)
        assert (source, made) == (str(tmp_path / "my photos"), str(tmp_path / "my photos.rio"))
        assert f"ImageFolder({made!r})" in text
        recordio.convert(source, made, announce=None)
        assert ImageFolder(made).targets == [0, 0, 1, 1]

    def test_a_folder_of_splits_is_refused_with_their_paths(self, tmp_path: Path) -> None:
        for split in ("val", "train"):
            write(tmp_path / split)
        text = message(DatasetError, ImageFolder, tmp_path)
        assert f"give one, {str(tmp_path / 'train')!r} or {str(tmp_path / 'val')!r}" in text

    def test_a_missing_folder_is_refused(self, tmp_path: Path) -> None:
        for make in (ImageFolder, MNIST):
            assert "no such folder" in message(DatasetError, make, tmp_path / "none")

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_a_split_that_is_not_converted_is_converted_with_the_others(self, tmp_path: Path, split: str) -> None:
        for n in range(8):
            file = tmp_path / "birds" / ("train", "val")[n % 2] / ("ant", "bee")[n // 2 % 2] / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(n))
        text = message(DatasetError, ImageFolder, tmp_path / "birds" / split)
        source, made = command(text)
        assert (source, made) == (str(tmp_path / "birds"), str(tmp_path / "birds.rio"))
        recordio.convert(source, made, announce=None)
        assert f"ImageFolder('{made}/{split}')" in text
        assert ImageFolder(f"{made}/{split}").targets == [0, 0, 1, 1]


PIXELS = np.arange(5 * 28 * 28).astype(np.uint8).reshape(5, 28, 28)
LABELS = np.array([7, 0, 9, 1, 2], np.uint8)


class TestDownloads:
    @pytest.mark.parametrize("inside", ["MNIST/raw", "."])
    def test_mnist_reads_the_splits_of_converted_files(self, tmp_path: Path, inside: str) -> None:
        files = tmp_path / "data" / inside
        files.mkdir(parents=True)
        for part, count in (("train", 5), ("t10k", 2)):
            (files / f"{part}-images-idx3-ubyte").write_bytes(idx(PIXELS[:count]))
            (files / f"{part}-labels-idx1-ubyte").write_bytes(idx(LABELS[:count]))
        source, made = command(message(DatasetError, MNIST, tmp_path / "data"))
        recordio.convert(source, made, announce=None)
        train, test = MNIST(made), MNIST(made, train=False, transform=ToTensor())
        assert (len(train), len(test), train.targets.tolist(), train.train) == (5, 2, LABELS.tolist(), True)
        assert (train.targets == 9).nonzero().tolist() == [[2]]
        with pytest.raises(AttributeError, match=r'ds\.view\.column\("image"\)'):
            train.data  # noqa: B018
        assert (train[0][0].mode, train[0][0].size, train[0][1]) == ("L", (28, 28), 7)
        assert test[1][0].shape == (1, 28, 28)
        assert train.classes[7] == "7 - seven"
        assert next(iter(DataLoader(test, 2)))[1].tolist() == [7, 0]
        assert "this is one dataset" in message(DatasetError, MNIST, Path(made) / "train")
        shutil.rmtree(Path(made) / "test")
        assert "there is no such folder" in message(DatasetError, MNIST, made, train=False)
        assert "nothing is downloaded" in message(SchemaError, MNIST, made, download=True)

    @pytest.mark.parametrize(
        ("kind", "folder", "train", "test", "labels"),
        [
            (CIFAR10, "cifar-10-batches-bin", "data_batch_1.bin", "test_batch.bin", 1),
            (CIFAR100, "cifar-100-binary", "train.bin", "test.bin", 2),
        ],
    )
    def test_cifar_too(self, tmp_path: Path, kind: Any, folder: str, train: str, test: str, labels: int) -> None:
        (tmp_path / folder).mkdir()
        record = bytes([3, 5][-labels:]) + bytes(range(256)) * 12
        for name, count in ((train, 3), (test, 1)):
            (tmp_path / folder / name).write_bytes(record * count)
        source, made = command(message(DatasetError, kind, tmp_path))
        assert (source, made) == (str(tmp_path / folder), str(tmp_path / f"{kind.__name__}.rio"))
        recordio.convert(source, made, announce=None)
        assert kind(made).targets == [5] * 3
        image, label = kind(made, False)[0]
        assert (image.mode, image.size, label) == ("RGB", (32, 32), 5)
