"""What the arrays and groups of a Zarr store say of themselves, read from their JSON and checked.

Symbolic links are refused: they may lead out of the store. Codecs that are not known to be safe are refused by name;
among them is `pickle`, which could run any program.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recordio.errors import SourceError
from recordio.writer.sources.files import refused, shown
from recordio.writer.sources.json_files import read_json

MARKS = ("zarr.json", ".zarray", ".zgroup")
_METADATA = (*MARKS, ".zattrs", ".zmetadata")
_MAX_JSON = 16 << 20
_MAX_FILES = 50_000_000
_MAX_DEPTH = 64
_PACKERS = frozenset("blosc gzip lz4 zlib zstd".split())
_FILTERS = frozenset("bitround bytes crc32 crc32c delta fixedscaleoffset fletcher32 shuffle transpose".split())
_VARIABLE = {"vlen-utf8": "text", "vlen-bytes": "bytes"}
_SHARDS = "sharding_indexed"
_DTYPE = re.compile(r"[<>|][biufcSUV][0-9]{1,9}")
_NAMES = re.compile(r"bool|u?int(?:8|16|32|64)|float(?:16|32|64)|complex(?:64|128)")
_VARIABLE_NAMES = {"string": "text", "bytes": "bytes", "variable_length_bytes": "bytes"}
_LENGTHS = {"fixed_length_utf32": "length_bytes", "null_terminated_bytes": "length_bytes", "raw_bytes": "length_bytes"}


@dataclass(frozen=True)
class ArrayMetadata:
    """An array.

    Attributes:
        path: of its folder in the store; "" is the store.
        shape: of the array.
        chunks: the shape of the pieces that it is stored in.
        inner: the shape of the pieces inside these, where they are shards.
        itemsize: bytes of an element; of a text or bytes of any length, those of a pointer.
        variable: "text" or "bytes" for elements of any length, else "".
        packer: what the pieces, or those in the shards, are packed with; "" for none.
        index_first: whether the index of a shard is at its beginning.
        index_checksum: bytes of the index's checksum.
        attributes: as they are in the JSON.
    """

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    itemsize: int
    packer: str
    variable: str = ""
    inner: tuple[int, ...] = ()
    index_first: bool = False
    index_checksum: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def row_nbytes(self) -> int:
        return math.prod(self.shape[1:]) * self.itemsize


class Hierarchy:
    """The files, arrays and attributes of a store. Raises SourceError.

    Attributes:
        files: the names of all files, in order.
        arrays: by path.
        attributes: of the root.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.files = sorted(_listed(path))
        known = {os.fsdecode(name) for name in self.files if os.path.basename(os.fsdecode(name)) in _METADATA}
        self.arrays: dict[str, ArrayMetadata] = {}
        self.attributes: dict[str, Any] = {}
        for name in sorted(known):
            folder, base = os.path.split(name)
            if base not in MARKS:
                continue
            try:
                about = self._json(name)
                beside = os.path.join(folder, ".zattrs")
                attributes = about.get("attributes", {}) if base == "zarr.json" else {}
                attributes = self._json(beside) if base != "zarr.json" and beside in known else attributes
                if base == ".zarray" or about.get("node_type") == "array":
                    self.arrays[folder] = _array(folder, about, _object(attributes))
                elif not folder:
                    self.attributes = _object(attributes)
            except SourceError as error:
                raise error.at(file=os.path.join(path, name))
        if not self.arrays:
            raise SourceError("there are no arrays in it").at(file=path)

    def _json(self, name: str) -> dict[str, Any]:
        return _object(read_json(os.path.join(self._path, name), _MAX_JSON))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SourceError("its JSON is no object")
    return value


def _listed(root: str) -> list[bytes]:
    """The names of all files below a folder. Raises SourceError for a symbolic link."""
    found: list[bytes] = []
    stack = [(os.fsencode(root), b"", 0)]
    while stack:
        folder, prefix, depth = stack.pop()
        if depth > _MAX_DEPTH or len(found) > _MAX_FILES:
            raise SourceError(f"folders deeper than {_MAX_DEPTH}, or more than {_MAX_FILES:,} files")
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        text = "a symbolic link may lead out of the store, and is not followed"
                        raise SourceError(text).at(file=shown(prefix + entry.name))
                    if entry.is_dir():
                        stack.append((entry.path, prefix + entry.name + b"/", depth + 1))
                    else:
                        found.append(prefix + entry.name)
        except NotADirectoryError as error:
            text = "a Zarr store is read from a folder, not from an archive: unpack it"
            raise SourceError(text).at(file=shown(folder)) from error
        except OSError as error:
            raise refused(error).at(file=shown(folder)) from error
    return found


def _array(path: str, about: dict[str, Any], attributes: dict[str, Any]) -> ArrayMetadata:
    version = about.get("zarr_format")
    if version == 2:
        return _consistent(_version_2(path, about, attributes))
    if version == 3:
        return _consistent(_version_3(path, about, attributes))
    raise SourceError(f"Zarr of version {version!r}; versions 2 and 3 are read")


def _sizes(value: Any, least: int) -> tuple[int, ...]:
    good = isinstance(value, list) and len(value) <= 32 and all(type(n) is int for n in value)
    if not good or not all(least <= n < 1 << 48 for n in value):
        raise SourceError(f"not a shape: {value!r:.80}")
    return tuple(value)


def _known(name: Any, others: frozenset[str] = frozenset()) -> str:
    """The plain name of a codec. Raises SourceError for one that is not known to be safe."""
    plain = name.removeprefix("numcodecs.") if isinstance(name, str) else ""
    if plain not in _PACKERS | _FILTERS | others:
        why = ": pickles could run any program, and are never loaded" if plain == "pickle" else ", which is not read"
        raise SourceError(f"stored with the codec {name!r}{why}")
    return plain


def _packer(names: list[str]) -> str:
    packers = [name for name in names if name in _PACKERS]
    if len(packers) > 1:
        raise SourceError(f"packed twice, with {' and '.join(packers)}, which is not read")
    return packers[0] if packers else ""


def _version_2(path: str, about: dict[str, Any], attributes: dict[str, Any]) -> ArrayMetadata:
    filters, compressor = about.get("filters") or [], about.get("compressor")
    if not isinstance(filters, list) or not all(isinstance(one, dict) for one in filters):
        raise SourceError("its filters are no list of objects")
    names = [_known(one.get("id"), frozenset(_VARIABLE)) for one in filters]
    if compressor is not None:
        names.append(_known(_object(compressor).get("id")))
    variable = next((_VARIABLE[name] for name in names if name in _VARIABLE), "")
    dtype = about.get("dtype")
    if not isinstance(dtype, str) or not (_DTYPE.fullmatch(dtype) or (dtype == "|O" and variable)):
        raise SourceError(f"elements of the type {dtype!r:.80} are not read")
    shape, chunks = _sizes(about.get("shape"), 0), _sizes(about.get("chunks"), 1)
    itemsize = 8 if variable else np.dtype(dtype).itemsize
    return ArrayMetadata(path, shape, chunks, itemsize, _packer(names), variable, attributes=attributes)


def _version_3(path: str, about: dict[str, Any], attributes: dict[str, Any]) -> ArrayMetadata:
    if about.get("storage_transformers"):
        raise SourceError("it has storage transformers, which are not read")
    grid = _object(about.get("chunk_grid"))
    if grid.get("name") != "regular":
        raise SourceError(f"its chunks are {grid.get('name')!r:.80}, not regular")
    shape, chunks = _sizes(about.get("shape"), 0), _sizes(_object(grid.get("configuration")).get("chunk_shape"), 1)
    itemsize, variable = _type_3(about.get("data_type"))
    codecs = _codecs(about.get("codecs"))
    shards = codecs[0][1] if [name for name, _ in codecs] == [_SHARDS] else {}
    names = [_known(name, frozenset(_VARIABLE)) for name, _ in (_codecs(shards.get("codecs")) if shards else codecs)]
    array = ArrayMetadata(path, shape, chunks, itemsize, _packer(names), variable, attributes=attributes)
    if not shards:
        return array
    index = [name for name, _ in _codecs(shards.get("index_codecs"))]
    if index not in (["bytes"], ["bytes", "crc32c"]):
        raise SourceError("the index of its shards is stored in a way that is not read")
    return replace(
        array,
        inner=_sizes(shards.get("chunk_shape"), 1),
        index_first=shards.get("index_location", "end") == "start",
        index_checksum=4 * (len(index) - 1),
    )


def _codecs(value: Any) -> list[tuple[Any, dict[str, Any]]]:
    if not isinstance(value, list):
        raise SourceError("its codecs are no list")
    codecs = [{"name": one} if isinstance(one, str) else _object(one) for one in value]
    return [(one.get("name"), _object(one.get("configuration") or {})) for one in codecs]


def _type_3(value: Any) -> tuple[int, str]:
    """Bytes of an element, and whether it is text or bytes of any length."""
    if isinstance(value, str) and value in _VARIABLE_NAMES:
        return 8, _VARIABLE_NAMES[value]
    if isinstance(value, str) and _NAMES.fullmatch(value):
        return np.dtype(value).itemsize, ""
    if isinstance(value, dict) and value.get("name") in _LENGTHS:
        nbytes = _object(value.get("configuration")).get(_LENGTHS[value["name"]])
        if type(nbytes) is int and 0 < nbytes < 1 << 30:
            return nbytes, ""
    raise SourceError(f"elements of the type {value!r:.80} are not read")


def _consistent(array: ArrayMetadata) -> ArrayMetadata:
    shape, chunks, inner = array.shape, array.chunks, array.inner
    if len(chunks) != len(shape) or (inner and len(inner) != len(shape)):
        raise SourceError(f"its shape {list(shape)} and its chunks {list(chunks)} do not go together")
    if any(outer % own for outer, own in zip(chunks, inner, strict=False)):
        raise SourceError(f"its shards {list(chunks)} are not cut evenly into {list(inner)}")
    return array
