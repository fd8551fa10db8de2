"""What is in an HDF5 file: the datasets that are fields, by split, and what is refused or left out."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from recordio.errors import SourceError
from recordio.packages import optional
from recordio.writer.sources.arrays.array_rows import (
    Column,
    common_length,
    joined,
    named_parts,
    refuse_sparse,
    without_rows,
)
from recordio.writer.sources.arrays.hdf5_columns import attributes, columns_of
from recordio.writer.sources.arrays.hdf5_storage import check_storage, prove_chunks
from recordio.writer.sources.files import open_regular
from recordio.writer.sources.foreign_errors import reading

_MAX_LINKS = 100_000
_MAX_DEPTH = 32
_CACHE = 1 << 20
_SHOWN = 3


class Scan(NamedTuple):
    """What is in a file, or in one split of it; `variable_nbytes` are those of rows without a fixed size, about."""

    columns: list[Column]
    length: int
    variable_nbytes: int
    metadata: dict[str, Any]
    notes: tuple[str, ...]


def scan(path: str) -> dict[str, Scan | SourceError]:
    """What is in a file by split, "" without splits, or why it cannot be read. Raises SourceError."""
    found: dict[str, Scan | SourceError] = {}
    with reading("not a readable HDF5 file"), opened(path, _CACHE) as file:
        for part, tops in named_parts(_names(file)).items():
            try:
                with reading("not a readable HDF5 file"):
                    found[part] = _scan_part(file, tops, os.path.getsize(path), _renamed(tops) if part else ())
            except SourceError as error:
                found[part] = error.at(file=path)
    return found


def opened(path: str, cache: int) -> Any:
    """The file; `cache`: bytes of unpacked chunks that are kept for each dataset."""
    os.close(open_regular(path))  # nothing but a regular file is opened
    if not os.path.isfile(path):
        raise SourceError("an HDF5 file is read where it lies, not from an archive: unpack it")
    return _h5py().File(path, "r", rdcc_nbytes=cache, rdcc_nslots=10007, locking=False)


def _h5py() -> Any:
    return optional("h5py", "HDF5 files", "hdf5")


def _renamed(tops: dict[str, str]) -> tuple[str, ...]:
    """A note that tells which dataset is which field of a split."""
    said = [f"{name!r} is {field!r}" for field, name in tops.items() if field]
    return (f"taken for splits by their names: {', '.join(said[:_SHOWN])}",) if said else ()


def _scan_part(file: Any, tops: dict[str, str], nbytes: int, said: tuple[str, ...]) -> Scan:
    found, links = _datasets(file, tops)
    refuse_sparse(found)
    shapes = {name: (data.shape or (), _itemsize(data)) for name, data in found.items()}
    length = common_length(shapes)
    chosen = {name: data for name, data in found.items() if data.shape and data.shape[0] == length}
    notes = [*said, *without_rows(shapes, length)]
    if links:
        notes.append(f"links are not followed: {', '.join(links[:_SHOWN])}{', ...' if links[_SHOWN:] else ''}")
    columns: list[Column] = []
    for name, data in chosen.items():
        try:
            with reading("the dataset cannot be read"):
                notes += check_storage(data, nbytes)
                columns += columns_of(name, data)
                for row in (0, length - 1):  # what crashes the library is to do it here
                    prove_chunks(data, row, row + 1)
                    _ = data[row : row + 1]
        except SourceError as error:
            raise error.at(field=name)
    fixed = sum(data.id.get_storage_size() for data in chosen.values())
    metadata, left = attributes(file, chosen)
    return Scan(columns, length, max(0, nbytes - fixed), metadata, (*notes, *left))


def _itemsize(data: Any) -> int:
    try:
        return int(data.dtype.itemsize)
    except TypeError as error:
        raise SourceError(f"its type is not read: {error}").at(field=data.name) from error


def _datasets(file: Any, tops: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The datasets below some names of the root by the name of their field, and the links that are not followed."""
    package = _h5py()
    found: dict[str, Any] = {}
    links: list[str] = []
    seen = {package.h5o.get_info(file.id).addr}
    stack = [(file, name, field, 1) for field, name in reversed(tops.items())]
    visits = 0
    while stack:
        group, name, field, depth = stack.pop()
        visits += 1
        if visits > _MAX_LINKS or depth > _MAX_DEPTH:
            raise SourceError(f"more than {_MAX_LINKS:,} links, or groups inside each other deeper than {_MAX_DEPTH}")
        if not _is_own(package, group, name, links):
            continue
        thing = group[name]
        address = package.h5o.get_info(thing.id).addr
        if address in seen:
            links.append(f"{thing.name} (a second name)")
            continue
        seen.add(address)
        if isinstance(thing, package.Group):
            stack += [(thing, below, joined(field, below), depth + 1) for below in reversed(_names(thing))]
        elif isinstance(thing, package.Dataset):
            found[field or name] = thing
    return found, links


def _names(group: Any) -> list[str]:
    if len(group) > _MAX_LINKS:
        raise SourceError(f"a group with more than {_MAX_LINKS:,} links")
    return list(group)


def _is_own(package: Any, group: Any, name: str, links: list[str]) -> bool:
    """Whether a name is of a thing in the file itself. Raises SourceError for a link out of the file."""
    link = group.get(name, getlink=True)
    path = joined(group.name.strip("/"), name)
    if isinstance(link, package.ExternalLink):
        raise SourceError(f"{path!r} leads to another file, {link.filename!r}, which is not read")
    if isinstance(link, package.SoftLink):
        links.append(f"{path} (to {link.path})")
        return False
    if not isinstance(link, package.HardLink):
        raise SourceError(f"{path!r} is a link of an unknown kind")
    return True
