"""The whole story on real data: folders of pictures become shards, shards become batches, and every byte is checked.

    python examples/demo.py [FOLDER]

Works in FOLDER, which must not exist and is kept, or in a temporary folder. Every step checks its result; the first
failure ends the demo with exit code 1. Needs `pip install '.[demo]'`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

import recordio

Floats = npt.NDArray[np.float32]
COUNTS = {"train": 1437, "test": 360}
EPOCHS = 20
GOAL = 0.95
COMMAND = shutil.which("recordio", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def heading(text: str) -> None:
    print(f"\n--- {text}", flush=True)


def check(condition: bool, text: str) -> None:
    """Prints the statement if it holds, else ends the demo."""
    if not condition:
        sys.exit(f"\nFAILED: {text}")
    print(f"[ok] {text}", flush=True)


def run(line: str, expect: int = 0) -> str:
    """Runs a recordio command line as a user would type it; prints and returns its output."""
    print(f"$ {line}", flush=True)
    done = subprocess.run([COMMAND or "recordio", *shlex.split(line)[1:]], capture_output=True, text=True)
    print(done.stdout + done.stderr, end="", flush=True)
    if done.returncode != expect:
        sys.exit(f"\nFAILED: `{line}` gave exit code {done.returncode}, not {expect}")
    return done.stdout + done.stderr


def write_pictures(folder: Path) -> dict[str, int]:
    """Writes the digits as folder/SPLIT/CLASS/NUMBER.png, every fifth for the test; returns the number per split."""
    digits = load_digits()
    counts = {"train": 0, "test": 0}
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        split = "train" if number % 5 else "test"
        path = folder / split / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype(np.uint8)).save(path)  # the digits range over 0..16
        counts[split] += 1
    return counts


class Classifier:
    """A network with one hidden layer, trained by gradient descent with momentum: x is float32 (n, 64), y int (n,)."""

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        sizes = [(64, 64), (64,), (64, 10), (10,)]
        self.weights = [(draw.standard_normal(s) / 8 if len(s) > 1 else np.zeros(s)).astype(np.float32) for s in sizes]
        self.speed = [np.zeros_like(w) for w in self.weights]

    def _forward(self, x: Floats) -> tuple[Floats, Floats]:
        w1, b1, w2, b2 = self.weights
        hidden = np.maximum(x @ w1 + b1, 0)
        scores = hidden @ w2 + b2
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, odds / odds.sum(axis=1, keepdims=True)

    def learn(self, x: Floats, y: npt.NDArray[np.int64], rate: float = 0.05) -> None:
        hidden, odds = self._forward(x)
        error = odds.copy()
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        back = (error @ self.weights[2].T) * (hidden > 0)
        slopes = [x.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
        for weight, speed, slope in zip(self.weights, self.speed, slopes, strict=True):
            speed *= 0.9
            speed -= rate * slope
            weight += speed

    def accuracy(self, x: Floats, y: npt.NDArray[np.int64]) -> float:
        return float((self._forward(x)[1].argmax(axis=1) == y).mean())


def features(images: Any) -> Floats:
    """Images uint8 (n, 8, 8, channels) as float32 (n, 64) in 0..1."""
    grey = np.stack(images).astype(np.float32).reshape(len(images), 8 * 8, -1)[:, :, 0]
    return grey / np.float32(255)


def train() -> float:
    """Trains over the shuffled loader; returns the held-out accuracy after the last epoch."""
    dataset = recordio.ShardDataset("digits.rio/train")
    loader = recordio.DataLoader(dataset, batch_size=32, shuffle=True, seed=0)
    held_out = recordio.ShardDataset("digits.rio/test").take(range(COUNTS["test"]))
    x, y = features(held_out["image"]), np.asarray(held_out["label"])
    model, accuracy = Classifier(), 0.0
    for epoch in range(EPOCHS):
        seen, start = 0, time.perf_counter()
        for batch in loader:
            model.learn(features(batch["image"]), np.asarray(batch["label"]))
            seen += len(batch["label"])
        seconds = time.perf_counter() - start
        accuracy = model.accuracy(x, y)
        print(f"epoch {epoch:2}   {seen} samples in {seconds:.2f} s   held-out accuracy {accuracy:.1%}", flush=True)
        if seen != len(dataset):
            sys.exit(f"\nFAILED: the epoch gave {seen} samples of {len(dataset)}")
    return accuracy


def check_against_pictures(pictures: Path) -> None:
    """Compares every sample with its source picture, whatever the order."""
    for split in ("train", "test"):
        dataset = recordio.ShardDataset(f"digits.rio/{split}", decode=None)
        columns = dataset.take(range(len(dataset)))
        packed = sorted(zip(map(int, columns["label"]), map(bytes, columns["image"]), strict=True))
        source = sorted((int(p.parent.name), p.read_bytes()) for p in (pictures / split).glob("*/*.png"))
        check(packed == source, f"{split}: all {len(source)} pictures and labels are in the dataset, byte for byte")


def flip_a_byte(shard: Path) -> int:
    """Flips a bit in the middle of the file, where the pictures are; returns the byte's offset."""
    data = bytearray(shard.read_bytes())
    offset = len(data) // 2
    data[offset] ^= 0x10
    shard.write_bytes(data)
    return offset


def check_damage_is_found() -> None:
    shutil.copytree("digits.rio", "damaged.rio")
    (shard,) = Path("damaged.rio/train").glob("*.rio")
    offset = flip_a_byte(shard)
    print(f"flipped one bit of byte {offset} of {shard}")
    told = run("recordio verify damaged.rio", expect=1)
    (problem,) = recordio.verify("damaged.rio/train").problems
    place = problem.place
    check(shard.name in told and str(place.byte) in told, f"verify names the place: {place}")
    check(None not in (place.block, place.byte) and place.field == "image", "down to the page and its first byte")
    labels = recordio.ShardDataset("damaged.rio/train", fields=["label"]).column("label")
    check(len(labels) == COUNTS["train"], "the labels still read")
    try:
        recordio.ShardDataset("damaged.rio/train").take(range(COUNTS["train"]))
    except recordio.CorruptError as error:
        check(True, f"reading the pictures raises CorruptError: {error}")
    else:
        check(False, "reading the pictures raises CorruptError")


def story() -> None:
    heading("1. Real data: scikit-learn's handwritten digits, as PNG files in class folders")
    counts = write_pictures(Path("digits"))
    print("digits/train/0/ ... digits/train/9/   digits/test/0/ ... digits/test/9/")
    check(counts == COUNTS, f"{counts['train']} pictures to learn from, {counts['test']} held out")

    heading("2. Pack them once (in small blocks, so that even this little dataset has a few)")
    run("recordio convert digits digits.rio --block-bytes 64KiB")
    check_against_pictures(Path("digits"))

    heading("3. Look")
    run("recordio info digits.rio")
    run("recordio show digits.rio/train")

    heading("4. Train a small NumPy network over the shuffled loader")
    accuracy = train()
    check(accuracy > GOAL, f"held-out accuracy {accuracy:.1%}, above {GOAL:.0%}")

    heading("5. Prove that every byte is what was written")
    run("recordio verify digits.rio")
    check(recordio.verify("digits.rio/train").ok, "the same from Python")

    heading("6. Flip one bit in a copy")
    check_damage_is_found()


def main() -> None:
    start = time.perf_counter()
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        folder.mkdir(parents=True)
        with chdir(folder):
            story()
        print(f"\nThe dataset stays in {folder / 'digits.rio'}.", end="")
    else:
        with tempfile.TemporaryDirectory() as temporary, chdir(temporary):
            story()
    print(f"\nDone in {time.perf_counter() - start:.1f} s.")


if __name__ == "__main__":
    main()
