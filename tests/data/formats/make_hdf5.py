"""Writes tests/data/formats/hdf5 with h5py: files of every type that is read, and the values that they hold.

python tests/data/formats/make_hdf5.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

HERE = Path(__file__).parent / "hdf5"
ROWS = 7


def values() -> dict[str, Any]:
    """The rows of each field, as NumPy arrays or lists."""
    n = np.arange(ROWS)
    return {
        "ints": (n * 3 - 5).astype("i4"),
        "big": (n / 3).astype(">f8"),
        "half": (n / 2).astype("f2"),
        "flags": n % 2 == 0,
        "complex": (n + 1j * n).astype("c8"),
        "group/images": np.arange(ROWS * 2 * 3 * 3, dtype="u1").reshape(ROWS, 2, 3, 3),
        "group/deep/grid": (n[:, None] * np.ones((1, 30))).astype("f4"),
        "packed": np.arange(ROWS * 20, dtype="i8").reshape(ROWS, 20),
        "colour": (n % 3).astype("i1"),
        "word": [f"wörd {k}" * k for k in range(ROWS)],
        "fixed": [f"f{k}" for k in range(ROWS)],
        "pairs": [[f"a{k}", "b" * k] for k in range(ROWS)],
        "free": [list(range(k)) for k in range(ROWS)],
        "record/x": n.astype("f4"),
        "record/y": np.stack([n, n * 2], 1).astype("u2"),
        "opaque": [bytes([k, 0, 255]) for k in range(ROWS)],
    }


def write_types(path: Path) -> None:
    rows = values()
    with h5py.File(path, "w") as file:
        for name in ("ints", "big", "half", "flags", "complex", "group/images"):
            file[name] = rows[name]
        file.create_dataset("group/deep/grid", data=rows["group/deep/grid"], chunks=(2, 12), compression="lzf")
        options = {"chunks": (3, 20), "compression": "gzip", "shuffle": True, "fletcher32": True}
        file.create_dataset("packed", data=rows["packed"], **options)
        colours = h5py.enum_dtype({"red": 0, "green": 1, "blue": 2}, "i1")
        file.create_dataset("colour", data=rows["colour"], dtype=colours)
        file.create_dataset("word", data=rows["word"], dtype=h5py.string_dtype())
        file.create_dataset("fixed", data=np.array(rows["fixed"], "S4"))
        file.create_dataset("pairs", data=rows["pairs"], dtype=h5py.string_dtype())
        free = file.create_dataset("free", (ROWS,), h5py.vlen_dtype("i2"))
        record = np.zeros(ROWS, [("x", "f4"), ("y", "u2", 2)])
        record["x"], record["y"] = rows["record/x"], rows["record/y"]
        file["record"] = record
        for k, row in enumerate(rows["free"]):
            free[k] = row
        file["opaque"] = np.array([np.void(row) for row in rows["opaque"]])
        file["mean"] = np.zeros(3, "f4")
        file["version"] = 3
        file["again"] = h5py.SoftLink("/ints")
        file.attrs.update({"title": "täst", "sizes": np.arange(3), "nan": np.nan, "ref": file["ints"].ref})
        file["packed"].attrs["unit"] = "mm"


def write_splits(folder: Path) -> None:
    with h5py.File(folder / "groups.h5", "w") as file:
        file["train/x"], file["train/y"] = np.arange(8).reshape(4, 2), np.arange(4)
        file["test/x"], file["test/y"] = np.arange(4).reshape(2, 2), np.arange(2)
    with h5py.File(folder / "names.h5", "w") as file:
        for split, rows in (("train", 4), ("test", 2)):
            file[f"X_{split}"], file[f"Y_{split}"] = np.arange(rows * 2).reshape(rows, 2), np.arange(rows)


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [str(one) for one in value] if value.dtype.kind == "c" else value.tolist()
    return [list(one) if isinstance(one, bytes) else one for one in value]


def main() -> None:
    HERE.mkdir(exist_ok=True)
    write_types(HERE / "types.h5")
    write_splits(HERE)
    expected = {name: plain(rows) for name, rows in values().items()}
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
