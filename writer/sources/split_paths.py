"""Finds the splits inside a folder: folders or files with the names of splits."""

from __future__ import annotations

import os

from recordio.writer.sources.archives.archive_paths import is_archive_name
from recordio.writer.sources.files import entries, file_names, folders, leads_nowhere, names_file
from recordio.writer.sources.folder import Folder
from recordio.writer.sources.kinds import file_kind
from recordio.writer.sources.media import is_picture
from recordio.writer.sources.split_names import named_splits


def split_paths(folder: Folder) -> dict[str, str]:
    """The folders named as splits, or else the tables, arrays and archives, or texts with nothing else.

    A single split name among other folders may well be a class; two are splits.
    """
    path = folder.path
    found_links = (entry for entry in entries(os.fsencode(path)) if entry.is_symlink())
    links = [os.fsdecode(entry.name) for entry in found_links if leads_nowhere(entry.path)]
    inside = [os.fsdecode(name) for name in folders(os.fsencode(path))]
    # A dangling link named as a split counts: opening it fails instead of dropping the split.
    named = named_splits([*inside, *(name for name in links if "." not in name)], path)
    if _are_classes(folder, named, inside):
        return {}
    if len(named) > 1 or (named and len(inside) == 1):
        return {split: os.path.join(path, name) for split, name in named.items()}
    files = _files(folder)
    stems = [name.partition(".")[0] for name in files]  # both extensions of train.csv.gz
    found = named_splits(stems, path) if len(set(stems)) == len(stems) else {}
    if named or inside or not found or len(found) < len(files):
        return {}
    return {split: os.path.join(path, files[stems.index(stem)]) for split, stem in found.items()}


def _files(folder: Folder) -> list[str]:
    """The files that may be splits. Texts may if there is nothing else; beside data they are lists."""
    own = [os.fsdecode(name) for name in folder.own]
    if own and len(own) == len(folder.names) and all(file_kind(name) == "text_lines" for name in own):
        return own
    return [name for name in file_names(folder.path) if _may_be_split(name) and names_file(folder.file(name))]


def _may_be_split(name: str) -> bool:
    return file_kind(name) not in (None, "text_lines") or is_archive_name(name)


def _are_classes(folder: Folder, named: dict[str, str], inside: list[str]) -> bool:
    """Whether folders with the names of splits are classes: like another folder beside them, they hold files alone."""
    if not named:
        return False
    others = [
        name for name in inside if name not in named.values() and any(map(is_picture, folder.folders.get(name, ())))
    ]
    flat = [all(b"/" not in file for file in folder.folders.get(name, ())) for name in (*named.values(), *others)]
    return bool(others) and all(flat)
