"""Recognises the kind of source at a path, finds its splits, and opens it.

Kinds are recognised by file names, not by contents. All functions raise SourceError when a path is no source.
"""

from __future__ import annotations

import os
from importlib import import_module
from itertools import islice

from recordio.errors import SchemaError, SourceError
from recordio.writer.sources.cifar import ARCHIVES, find_version, parts
from recordio.writer.sources.files import entries, file_names, folders, leads_nowhere, names_file, shown, walk
from recordio.writer.sources.image_folder import class_names, is_picture
from recordio.writer.sources.mnist import image_files, is_images_file
from recordio.writer.sources.source import Source, SourceOptions, SourceSpec

_CLASSES = {
    "image_folder": ("image_folder", "ImageFolder"),
    "file_groups": ("file_groups", "FileGroups"),
    "csv": ("tables", "CsvTable"),
    "tsv": ("tables", "TsvTable"),
    "jsonl": ("json_lines", "JsonLines"),
    "npy": ("arrays", "NpyFile"),
    "npz": ("arrays", "NpzFile"),
    "mnist": ("mnist", "Mnist"),
    "cifar10": ("cifar", "Cifar"),
    "cifar100": ("cifar", "Cifar"),
}
KINDS = tuple(_CLASSES)
FOLDER_KINDS = ("image_folder", "file_groups")
TABLE_KINDS = ("csv", "tsv", "jsonl")
SPLITS = ("train", "val", "valid", "validation", "test")
_EXTENSIONS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".npy": "npy", ".npz": "npz"}
_MAX_SEEN_FILES = 20_000


def open_source(path: str | os.PathLike[str], kind: str | None = None, options: SourceOptions | None = None) -> Source:
    """The source at a path; its kind is detected if None. Raises SourceError, SchemaError for an unknown kind."""
    where, options = _existing(path), options or SourceOptions()
    kind = _known(kind) or detect(where)
    if os.path.isdir(where) and kind in _EXTENSIONS.values():
        raise SourceError(f"kind {kind!r} is a file, this is a folder").at(file=where)
    if not os.path.isdir(where) and kind in FOLDER_KINDS:
        raise SourceError(f"kind {kind!r} is a folder, this is a file").at(file=where)
    if options.embed and kind not in TABLE_KINDS:
        raise SchemaError(f"only the columns of a table can be embedded, this is {kind!r}")
    module, name = _CLASSES[kind]
    source: Source = getattr(import_module(f"recordio.writer.sources.{module}"), name)(where, options)
    if source.kind != kind:
        raise SourceError(f"this is {source.kind!r}, not {kind!r}").at(file=where)
    return source


def _known(kind: str | None) -> str | None:
    if kind is not None and kind not in _CLASSES:
        raise SchemaError(f"unknown kind {kind!r}: expected one of {', '.join(KINDS)}")
    return kind


def _existing(path: str | os.PathLike[str]) -> str:
    where = os.fspath(path)
    if not os.path.exists(where):
        text = "the symbolic link leads nowhere" if os.path.islink(where) else "there is no such file or folder"
        raise SourceError(text).at(file=where)
    if not os.path.isdir(where) and not os.path.isfile(where):
        raise SourceError("neither a folder nor a regular file").at(file=where)
    return where


def _extension_kind(name: str) -> str | None:
    return _EXTENSIONS.get(os.path.splitext(name)[1].lower())


def detect(path: str | os.PathLike[str]) -> str:
    """The kind of the source at a path, one of KINDS. A folder of splits has the kind of its first split."""
    where = _existing(path)
    kind = _detect_folder(where) if os.path.isdir(where) else _detect_file(where)
    if kind is None:
        raise SourceError(f"not recognised; give kind=, one of {', '.join(KINDS)}").at(file=where)
    return kind


def _detect_file(path: str) -> str | None:
    name = os.path.basename(path)
    if is_images_file(name):
        return "mnist"
    if name.lower().endswith(ARCHIVES):
        version = find_version(path)
        return version.kind if version else None
    return _extension_kind(name)


def _detect_folder(path: str) -> str:
    if image_files(path):
        return "mnist"
    version = find_version(path)
    if version:
        return version.kind
    inside = _split_paths(path)
    if inside:
        return detect(next(iter(inside.values())))
    return _kind_of_files(path)


def _kind_of_files(path: str) -> str:
    """image_folder if all images lie in subfolders and no other file shares a stem with one of them."""
    names = [name for name, _ in islice(walk(os.fsencode(path)), _MAX_SEEN_FILES)]
    if not names:
        raise SourceError("the folder is empty").at(file=path)
    if all(_extension_kind(os.fsdecode(name)) in TABLE_KINDS for name in names):
        raise SourceError("the folder holds tables; give one of them").at(file=path)
    pictures = {os.path.splitext(name)[0] for name in names if is_picture(name)}
    others = {os.path.splitext(name)[0] for name in names if not is_picture(name)}
    in_classes = pictures and all(b"/" in stem for stem in pictures)
    return "image_folder" if in_classes and pictures.isdisjoint(others) else "file_groups"


def splits(path: str | os.PathLike[str], kind: str | None = None, embed: tuple[str, ...] = ()) -> dict[str, SourceSpec]:
    """The splits at a path by name, empty without splits. `kind` replaces the detected kind of each."""
    where, kind = _existing(path), _known(kind)
    if kind in (None, "mnist") and os.path.isdir(where) and (images := image_files(where)):
        return {part: SourceSpec(where, "mnist", SourceOptions(part, embed=embed)) for part in images}
    if kind in (None, "cifar10", "cifar100") and (os.path.isdir(where) or where.lower().endswith(ARCHIVES)):
        version = find_version(where)
        if version:
            return {part: SourceSpec(where, version.kind, SourceOptions(part, embed=embed)) for part in parts(where)}
    return _split_specs(where, kind, embed) if os.path.isdir(where) else {}


def _split_specs(path: str, kind: str | None, embed: tuple[str, ...]) -> dict[str, SourceSpec]:
    found = _split_paths(path)
    kinds = {name: kind or detect(inside) for name, inside in found.items()}
    labelled = [os.fsencode(found[name]) for name in found if kinds[name] == "image_folder"]
    # A label must mean the same class in every split, even if a split lacks a class.
    classes = tuple(sorted({name for root in labelled for name in class_names(root)}))
    notes = _left_out(path, list(found.values()))
    specs = {}
    for name, inside in found.items():
        options = SourceOptions(classes=classes if kinds[name] == "image_folder" else None, embed=embed)
        specs[name] = SourceSpec(inside, kinds[name], options, notes)
    return specs


def _left_out(path: str, splits: list[str]) -> tuple[str, ...]:
    """A note that names the entries of a folder that belong to no split."""
    used = {os.path.basename(split) for split in splits}
    others = [shown(entry.name) for entry in entries(os.fsencode(path)) if os.fsdecode(entry.name) not in used]
    more = ", ..." if others[5:] else ""
    return (f"{', '.join(map(repr, others[:5]))}{more}: left out, beside the splits",) if others else ()


def _split_paths(path: str) -> dict[str, str]:
    """The folders named as splits, or else the tables and arrays.

    A single split name among other folders may well be a class; two are splits.
    """
    inside = {name: os.path.join(path, name) for name in SPLITS}
    # A dangling link named as a split counts: opening it fails instead of dropping the split.
    named = [name for name in SPLITS if os.path.isdir(inside[name]) or leads_nowhere(inside[name])]
    if len(named) > 1 or (named and len(folders(os.fsencode(path))) == 1):
        return {name: os.path.join(path, name) for name in named}
    files = [(name, name + extension) for name in SPLITS for extension in _EXTENSIONS]
    found = [(name, file) for name, file in files if names_file(os.path.join(path, file))]
    if named or not found:
        return {}
    others = [name for name in file_names(path) if _extension_kind(name) or os.path.isdir(os.path.join(path, name))]
    if not len(others) == len(found) == len(dict(found)):
        return {}
    return {name: os.path.join(path, file) for name, file in found}
