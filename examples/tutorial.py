"""The classic tutorial of PyTorch on a converted folder. Only the import and the path differ from torchvision's.

    recordio convert photos/ photos.rio          photos/train/CLASS/*.jpg and photos/test/CLASS/*.jpg, or val/ for test/
    python examples/tutorial.py photos.rio
    python examples/tutorial.py                  scikit-learn's digits, made into pictures and converted first

Needs `pip install '.[test]'`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from demo import write_pictures
from torch import nn, optim

import recordio
from recordio import transforms  # from torchvision import transforms
from recordio.torch import DataLoader, ImageFolder  # from torchvision.datasets import ImageFolder


def converted_digits(folder: Path) -> Path:
    """scikit-learn's digits as pictures in class folders, and what `recordio convert` makes of them."""
    write_pictures(folder / "digits")
    recordio.convert(folder / "digits", folder / "digits.rio", announce=None)
    return folder / "digits.rio"


def network(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.LazyConv2d(16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.LazyConv2d(32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.LazyLinear(classes),
    )


def tutorial(root: Path) -> None:
    train_steps = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(0.8, 1.0)),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.5], std=[0.5]),
        ]
    )
    test_steps = transforms.Compose(
        [transforms.Resize((32, 32)), transforms.ToTensor(), transforms.Normalize(mean=[0.5], std=[0.5])]
    )
    held_out = "test" if (root / "test").exists() or not (root / "val").exists() else "val"
    train_set = ImageFolder(root / "train", train_steps)
    test_set = ImageFolder(root / held_out, test_steps)
    train_loader = DataLoader(train_set, batch_size=16, shuffle=True, num_workers=2)
    test_loader = DataLoader(test_set, batch_size=64, num_workers=2)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = network(len(train_set.classes)).to(device)
    model(next(iter(test_loader))[0].to(device))  # gives the lazy layers their sizes
    model = nn.DataParallel(model)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)

    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()

    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in test_loader:
            correct += int((model(images.to(device)).argmax(1).cpu() == labels).sum())
    print(f"accuracy after an epoch, on {len(test_set)} images held out: {correct / len(test_set):.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path)
    root = parser.parse_args().root
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        tutorial(root or converted_digits(Path(folder)))


if __name__ == "__main__":
    main()
