"""Folders as people have them: what `recordio convert` says of each, and what the dataset holds. Prints Markdown."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

import recordio
from recordio.tools.main import main as command

Files = Mapping[str, bytes | str]


def picture(shade: int = 0, form: str = "JPEG") -> bytes:
    """A small picture."""
    out = BytesIO()
    pixels = (np.indices((24, 32)).sum(0) * 3 + shade).astype(np.uint8)
    Image.fromarray(pixels).convert("L" if form == "PNG" else "RGB").save(out, form)
    return out.getvalue()


def class_folders() -> Files:
    pictures = {f"{name}/{n}.jpg": picture(n) for name in ("cat", "dog") for n in range(4)}
    return pictures | {"preview.png": picture(9, "PNG"), "cat/notes.pdf": "x", "README.md": "x", ".DS_Store": "x"}


def two_levels() -> Files:
    return {f"flowers/{name}/{n}.jpg": picture(n) for name in ("lily", "rose") for n in range(3)}


def splits(*names: str) -> Callable[[], Files]:
    return lambda: {f"{split}/{name}/{n}.jpg": picture(n) for split in names for name in ("a", "b") for n in range(2)}


def captions() -> Files:
    rows = "".join(json.dumps({"file_name": f"{n}.jpg", "text": f"caption {n}"}) + "\n" for n in range(3))
    return {f"{n}.jpg": picture(n) for n in range(4)} | {"metadata.jsonl": rows}


def table() -> Files:
    rows = "id_code,diagnosis\n" + "".join(f"im{n},{n % 2}\n" for n in range(3))
    pictures = {f"train_images/im{n}.png": picture(n, "PNG") for n in range(3)}
    return pictures | {"test_images/te0.png": picture(0, "PNG"), "train.csv": rows}


def yolo() -> Files:
    pictures = {f"images/{split}/{n}.jpg": picture(n) for split in ("train", "val") for n in range(2)}
    labels = {f"labels/{split}/{n}.txt": "1 .5 .5 .2 .1\n" for split in ("train", "val") for n in range(2)}
    return pictures | labels | {"data.yaml": "names: [cat, dog]\n"}


def coco() -> Files:
    def annotations(name: str) -> str:
        box = {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
        image = {"id": 7, "file_name": name, "width": 32, "height": 24}
        return json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 18, "name": "dog"}]})

    return {
        "train2017/000001.jpg": picture(1),
        "val2017/000002.jpg": picture(2),
        "annotations/instances_train2017.json": annotations("000001.jpg"),
        "annotations/instances_val2017.json": annotations("000002.jpg"),
    }


def voc() -> Files:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    text = f"<annotation><object><name>dog</name><difficult>0</difficult>{box}</object></annotation>"
    files: dict[str, bytes | str] = {f"VOC2012/JPEGImages/{n}.jpg": picture(n) for n in range(3)}
    files |= {f"VOC2012/Annotations/{n}.xml": text for n in range(3)}
    return files | {"VOC2012/ImageSets/Main/train.txt": "0\n1\n", "VOC2012/ImageSets/Main/val.txt": "2\n"}


def masks() -> Files:
    pictures = {f"images/{n}.jpg": picture(n) for n in range(3)}
    return pictures | {f"masks/{n}_mask.png": picture(n, "PNG") for n in range(3)}


def speech() -> Files:
    return {f"{n}.wav": b"RIFF" + bytes(40) for n in range(3)} | {f"{n}.txt": f"line {n}" for n in range(3)}


LAYOUTS: dict[str, Callable[[], Files]] = {
    "Class folders with stray files": class_folders,
    "One folder too many": two_levels,
    "Splits: Training, Testing": splits("Training", "Testing"),
    "Splits: TRAIN, Dev": splits("TRAIN", "Dev"),
    "Splits: train2017, val2017": splits("train2017", "val2017"),
    "Splits: seg_train, seg_test": splits("seg_train", "seg_test"),
    "Splits: images-train, images-valid": splits("images-train", "images-valid"),
    "Pictures with captions in JSON Lines": captions,
    "Pictures with a CSV file": table,
    "YOLO": yolo,
    "COCO": coco,
    "Pascal VOC": voc,
    "Pictures with masks": masks,
    "Sounds with texts": speech,
}


def convert(make: Callable[[], Files]) -> str:
    """What the command prints for a layout, and the first sample of each dataset."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, data in make().items():
            path = Path("data", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            command(["convert", "data", "out.rio"])
        lines = [line for line in out.getvalue().splitlines() if "samples/s" not in line]
        found = sorted(os.path.dirname(path) for path in Path().glob("out.rio/**/manifest.json"))
        for path in found:
            dataset = recordio.ShardDataset(path, decode=None)
            lines += ["", f"{path}: {', '.join(f'{name}: {kind}' for name, kind in dataset.schema.items())}"]
            lines += [str({name: _short(value) for name, value in dataset[0].items()})]
        return "\n".join(lines)


def _short(value: object) -> object:
    if isinstance(value, (bytes, memoryview)):
        return f"<{len(value)} bytes>"
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def main() -> None:
    for name, make in LAYOUTS.items():
        print(f"### {name}\n\n```\n{convert(make)}\n```\n")


if __name__ == "__main__":
    main()
