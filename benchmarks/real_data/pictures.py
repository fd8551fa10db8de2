"""Every picture of a folder, converted on its own and all together, compared with Pillow's own decode. Run by hand.

    pip download --no-binary :all: --no-deps pillow && tar xf pillow-*.tar.gz
    python -m benchmarks.real_data.pictures pillow-*/Tests/images

Prints a line for each file that was refused, left out or, which would be a fault, read with other pixels, and the table
of counts by format.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import recordio
from recordio.images.formats import HEAD_NBYTES, by_name, picture_format

OUTCOMES = (
    "read",
    "read, as an array",
    "refused, and Pillow refuses it",
    "read, and Pillow refuses it",
    "refused",
    "OTHER PIXELS",
)


def by_pillow(path: Path) -> tuple[Any, Any]:
    """The pixels as Pillow reads them, upright and as they lie, in RGB or as they are if that would cut them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as picture:
            picture.load()
            lying: Any = picture
            if not (picture.mode.startswith("I") or picture.mode == "F"):
                lying = picture.convert("RGBA" if picture.mode in ("PA", "La", "RGBa") else "RGB").convert("RGB")
            return np.array(ImageOps.exif_transpose(lying)), np.array(lying)


def same(found: Any, expected: Any) -> bool:
    """Equal, or equal in the bits that Pillow keeps of 16."""
    if found.shape[:2] != expected.shape[:2]:
        return False
    if found.dtype == np.uint16 and found.ndim == 3:
        colours = found[..., :3] if found.shape[2] > 2 else found[..., :1].repeat(3, axis=2)
        return bool((np.abs((colours >> 8).astype(int) - expected) <= 1).all())
    return bool(np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"))


def alone(path: Path, scratch: Path) -> tuple[str, str]:
    """The outcome of converting one file in a class folder, and the reason of a refusal."""
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "in/a").mkdir(parents=True)
    shutil.copy(path, scratch / "in/a" / path.name)
    try:
        expected: Any = by_pillow(path)
    except Exception as error:  # noqa: BLE001 - whatever Pillow's plug-ins raise
        expected = error
    try:
        recordio.convert(scratch / "in", scratch / "out", kind="image_folder", workers=1)
        found = recordio.ShardDataset(scratch / "out")[0]["image"]
    except recordio.RecordIOError as error:
        known = isinstance(expected, Exception)
        return ("refused, and Pillow refuses it" if known else "refused"), str(error).replace(str(scratch), "")
    if isinstance(expected, Exception):
        return "read, and Pillow refuses it", f"Pillow: {expected}"
    if not any(same(found, pixels) for pixels in expected):
        return "OTHER PIXELS", f"{found.dtype}{found.shape}, Pillow {expected[1].dtype}{expected[1].shape}"
    return ("read" if found.dtype == np.uint8 else "read, as an array"), ""


def together(files: list[Path], scratch: Path) -> None:
    """Converts all files in one class folder by the command line, as people do, and prints what it says."""
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "in/a").mkdir(parents=True)
    for number, path in enumerate(files):
        shutil.copy(path, scratch / "in/a" / f"{number:04d}-{path.name}")
    command = [sys.executable, "-m", "recordio", "convert", str(scratch / "in"), str(scratch / "out")]
    ran = subprocess.run(
        [*command, "--kind", "image_folder", "--on-error", "skip"], capture_output=True, text=True, check=False
    )
    lines = ran.stdout.splitlines()
    skipped = sum(line.startswith("  skipped ") for line in lines)
    print(f"\nas one folder: exit code {ran.returncode}, {len(files)} files, {skipped} skipped by name")
    print("\n".join(line for line in lines if not line.startswith("  skipped ")).replace(str(scratch), ""))
    print(f"on stderr: {ran.stderr.strip()!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    counts: dict[str, Counter[str]] = {}
    pictures, others = [], Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                form = picture_format(path.name, file.read(HEAD_NBYTES))
            if form is None or path.name.startswith("."):
                others[os.path.splitext(path.name)[1] or "(no extension)"] += 1
                continue
            if by_name(path.name) is not None:
                pictures.append(path)
            else:
                others[f"{path.suffix or path.name} ({form} by content)"] += 1
                continue
            outcome, reason = alone(path, Path(scratch))
            counts.setdefault(form, Counter())[outcome] += 1
            if reason:
                print(f"{outcome}: {path.relative_to(folder)}: {reason}", flush=True)
        table(counts)
        print(f"\nno pictures by name, so not tried: {dict(others.most_common())}")
        together(pictures, Path(scratch))


def table(counts: dict[str, Counter[str]]) -> None:
    print(f"\n| format | files | {' | '.join(OUTCOMES)} |\n| --- | ---: |{' ---: |' * len(OUTCOMES)}")
    for form, found in sorted(counts.items(), key=lambda item: -item[1].total()):
        print(f"| {form} | {found.total()} | {' | '.join(str(found[outcome] or '') for outcome in OUTCOMES)} |")
    total = sum(counts.values(), Counter[str]())
    print(f"| all | {total.total()} | {' | '.join(str(total[outcome]) for outcome in OUTCOMES)} |")


if __name__ == "__main__":
    main()
