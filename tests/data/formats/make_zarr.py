"""Writes tests/data/formats/zarr with the package zarr: stores of both versions, zipped, and the values that they hold.

python tests/data/formats/make_zarr.py
"""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

HERE = Path(__file__).parent / "zarr"
ROWS = 7
PACKERS: dict[int, dict[str, Any]] = {
    2: {name: numcodecs.get_codec({"id": name}) for name in ("blosc", "zlib", "gzip", "zstd", "lz4")},
    3: {"blosc": BloscCodec(), "gzip": GzipCodec(), "zstd": ZstdCodec()},
}


def values() -> dict[str, Any]:
    """The rows of each field, as NumPy arrays or lists."""
    n = np.arange(ROWS)
    return {
        "ints": (n * 3 - 5).astype("i4"),
        "big": (n / 3).astype(">f8"),
        "flags": n % 2 == 0,
        "complex": (n + 1j * n).astype("c8"),
        "group/images": np.arange(ROWS * 2 * 3 * 3, dtype="u1").reshape(ROWS, 2, 3, 3),
        "word": [f"wörd {k}" * k for k in range(ROWS)],
        "fixed": np.array([f"ü{k}" for k in range(ROWS)], "U4"),
    }


def write(folder: Path, version: int) -> None:
    group = zarr.open_group(folder, mode="w", zarr_format=version)
    for name, rows in values().items():
        if name == "word":
            array = group.create_array(name, shape=(ROWS,), chunks=(3,), dtype=str)
            array[:] = np.array(rows, dtype=np.dtypes.StringDType())
        else:
            group.create_array(name, data=rows, chunks=(3, *rows.shape[1:-1], 2)[: rows.ndim])
    for name, packer in PACKERS[version].items():
        group.create_array(
            f"packed/{name}", data=np.arange(ROWS * 5).reshape(ROWS, 5), chunks=(2, 5), compressors=packer
        )
    if version == 3:
        shards = np.arange(ROWS * 4, dtype="i2").reshape(ROWS, 4)
        group.create_array("shards", data=shards, chunks=(1, 2), shards=(4, 4))
    group.create_array("mean", data=np.zeros(3))
    group.attrs.update({"title": "täst", "sizes": [0, 1, 2]})
    group["ints"].attrs["unit"] = "mm"


def pack(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.writestr(zipfile.ZipInfo(str(file.relative_to(folder))), file.read_bytes())


def plain(rows: Any) -> Any:
    if isinstance(rows, list):
        return rows
    return [str(one) for one in rows] if rows.dtype.kind == "c" else rows.tolist()


def main() -> None:
    warnings.simplefilter("ignore")
    HERE.mkdir(exist_ok=True)
    for version in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), version)
            pack(Path(folder), HERE / f"v{version}.zip")
    expected = {name: plain(rows) for name, rows in values().items()}
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
