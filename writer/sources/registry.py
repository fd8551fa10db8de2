"""Recognises what is at a path, finds its splits, and opens it.

Each kind of folder says whether it recognises one, how sure it is, and what it would leave out: the function
`recognise` of its module. The surest wins, of equals the one that leaves out least. Nothing is taken for opaque bytes
and nothing is passed over in silence: a kind that would leave out most files is only used if the caller names it, and
what is left out becomes a note. All functions raise SourceError when a path is no source.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module
from typing import Any

from recordio.errors import SchemaError, SourceError
from recordio.writer.sources import file_sets
from recordio.writer.sources.archives.archive_paths import TAR_ENDINGS, find_archive, is_archive_name
from recordio.writer.sources.archives.webdataset_names import AS_WEBDATASET, looks_like_webdataset
from recordio.writer.sources.arrays import zarr
from recordio.writer.sources.arrays.cifar import find_version, parts
from recordio.writer.sources.arrays.mnist import image_files, is_images_file
from recordio.writer.sources.files import entries, exists, folders, is_file, is_folder, open_file
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.folders.class_folders import MEDIA, class_names
from recordio.writer.sources.foreign_errors import reading
from recordio.writer.sources.kinds import (
    EXTENSIONS,
    FILE_KINDS,
    FILE_SET_KINDS,
    FOLDER_KINDS,
    KIND,
    KINDS,
    LINE_KINDS,
    TABLE_KINDS,
    endings,
    file_kind,
)
from recordio.writer.sources.leftovers import by_extension, hidden, is_clutter, left_out
from recordio.writer.sources.media import container, is_picture, is_sound
from recordio.writer.sources.own_dataset import refuse_dataset
from recordio.writer.sources.records.kind_by_content import kind_by_content
from recordio.writer.sources.records.lmdb import is_lmdb
from recordio.writer.sources.refusals import refuse_to_leave_most, unexplained
from recordio.writer.sources.source import Source, SourceOptions, SourceSpec
from recordio.writer.sources.split_names import renamed
from recordio.writer.sources.split_paths import split_paths
from recordio.writer.sources.tables.table_options import TableOptions

_OWN = ("part", "classes", "names", "files", "forced", "folder")  # options that are the source's, not the caller's
_JSON = frozenset((b".json",))
# The modules whose `recognise` is asked, in order, and the extensions of which a folder has to have one for it to be of
# their kind, None for any. Only those that are asked get imported.
_RECOGNISERS: dict[str, frozenset[bytes] | None] = {
    "folders.coco": _JSON,
    "arrow.hf_dataset": _JSON,
    "file_sets": None,
    "records.indexed_shards": _JSON,
    "folders.paired_folders": None,
    "folders.indexed_files": endings(TABLE_KINDS),
    "folders.class_folders": None,
    "folders.file_groups": None,
}
_LAST_RESORT = "folders.file_groups"
_FILES_IN_ZIP = ("npz",)  # kinds whose one file is a zip archive


def open_source(path: str | os.PathLike[str], kind: str | None = None, options: SourceOptions | None = None) -> Source:
    """The source at a path; its kind is detected if None. Raises SourceError, SchemaError for an unknown kind."""
    options = options or SourceOptions()
    if not _known(kind):
        spec = next(iter(find_sources(path, None, options).values()))
        path, kind = spec.path, spec.kind
        options = replace(spec.options, part=options.part, classes=options.classes)
    assert kind is not None
    where = _existing(path)
    _require_kind_of_path(where, kind)
    if options.embed and kind not in TABLE_KINDS:
        raise SchemaError(f"only the columns of a table can be embedded, this is {kind!r}")
    if options.root is not None and kind not in (*TABLE_KINDS, "indexed_files", "coco"):
        raise SchemaError(f"root is for the names of files in a table, this is {kind!r}")
    if options.table != TableOptions() and kind not in (*LINE_KINDS, "indexed_files"):
        raise SchemaError(f"encoding, delimiter and the like are for tables, this is {kind!r}")
    module = _module(KIND[kind].module)
    try:
        with reading():
            source: Source = getattr(module, KIND[kind].reader)(where, options)
    except (SourceError, SchemaError) as error:
        raise error.at(file=where)
    if source.kind != kind:
        raise SourceError(f"this is {source.kind!r}, not {kind!r}").at(file=where)
    return source


def detect(path: str | os.PathLike[str]) -> str:
    """The kind of the source at a path, one of KINDS. A folder of splits has the kind of its first split."""
    return next(iter(find_sources(path).values())).kind


def splits(
    path: str | os.PathLike[str], kind: str | None = None, options: SourceOptions | None = None
) -> dict[str, SourceSpec]:
    """The splits at a path by name, empty without splits. `kind` replaces the detected kind of each."""
    found = find_sources(path, kind, options)
    return {} if "" in found else found


def find_sources(
    path: str | os.PathLike[str], kind: str | None = None, options: SourceOptions | None = None
) -> dict[str, SourceSpec]:
    """The sources at a path by split, "" for one without splits. `kind` replaces the detected kind of each."""
    with reading("what it is cannot be found out"):
        return _found_sources(path, _known(kind), options or SourceOptions())


def _found_sources(path: str | os.PathLike[str], kind: str | None, options: SourceOptions) -> dict[str, SourceSpec]:
    if not exists(os.fspath(path)) and file_sets.is_pattern(os.fspath(path)):
        spec = file_sets.matching(os.fspath(path))
        return {"": _with(replace(spec, kind=kind or spec.kind), options)}
    where = _existing(path)
    if is_folder(where):
        return {split: _with(spec, options) for split, spec in _in_folder(where, kind, options).items()}
    if is_archive_name(where) and os.path.isfile(where) and kind not in _FILES_IN_ZIP:
        return {split: _with(spec, options) for split, spec in _in_archive(where, kind, options).items()}
    if kind in ("cifar10", "cifar100"):
        raise SourceError(f"kind {kind!r} is a folder, or an archive such as .tar.gz").at(file=where)
    if kind not in (None, "hdf5"):
        return {"": SourceSpec(where, kind, replace(options, forced=True))}
    kind = kind or _kind_of_file(where)
    found = _module("arrays.hdf5").parts(where) if kind == "hdf5" else {"": SourceSpec(where, kind)}
    return {split: _with(spec, options) for split, spec in found.items()}


def _with(spec: SourceSpec, options: SourceOptions) -> SourceSpec:
    """The spec with what the caller says of tables and pictures."""
    own = spec.options
    return replace(
        spec,
        options=replace(options, root=options.root or own.root, **{name: getattr(own, name) for name in _OWN}),
    )


def _known(kind: str | None) -> str | None:
    if kind is not None and kind not in KIND:
        raise SchemaError(f"unknown kind {kind!r}: expected one of {', '.join(KINDS)}")
    return kind


def _existing(path: str | os.PathLike[str]) -> str:
    where = os.fspath(path)
    if not exists(where):
        text = "the symbolic link leads nowhere" if os.path.islink(where) else "there is no such file or folder"
        raise SourceError(text).at(file=where)
    if not is_folder(where) and not is_file(where):
        raise SourceError("neither a folder nor a regular file").at(file=where)
    return where


def _require_kind_of_path(where: str, kind: str) -> None:
    if is_folder(where) and kind in FILE_KINDS:
        raise SourceError(f"kind {kind!r} is a file, this is a folder").at(file=where)
    if not is_folder(where) and kind in FOLDER_KINDS:
        raise SourceError(f"kind {kind!r} is a folder, this is a file").at(file=where)


def _kind_of_file(path: str) -> str:
    name = os.path.basename(path)
    kind = "mnist" if is_images_file(name) else file_kind(name)
    if kind is not None:
        return kind
    with open_file(path) as file:
        head = file.read(512)
    if name.lower().endswith(".json") and _module("folders.coco").begins_like_coco(path):
        return "coco"
    found = kind_by_content(path)
    if found is not None:
        return found
    known = container(os.fsencode(name), head)
    if known is not None:
        raise SourceError(f"this is {known[0]}, which is not read by itself: {known[1]}").at(file=path)
    if is_picture(os.fsencode(name)):
        raise SourceError("this is one picture; give the folder that it lies in").at(file=path)
    extensions = ", ".join((*EXTENSIONS, ".zip"))
    text = f"not recognised; files that are read: {extensions}; if it is one of these, say so by --kind (kind=)"
    raise SourceError(text).at(file=path)


def _in_archive(path: str, kind: str | None, options: SourceOptions) -> dict[str, SourceSpec]:
    """What is in an archive: samples of WebDataset, a folder, or the parts of CIFAR."""
    if kind == "webdataset":
        return {"": SourceSpec(path, kind, SourceOptions(forced=True))}
    if kind is None and path.lower().endswith(TAR_ENDINGS) and looks_like_webdataset(os.fsencode(path)):
        return {"": SourceSpec(path, "webdataset", notes=(AS_WEBDATASET,))}
    version = find_version(path)
    if version is not None and kind in (None, version.kind):
        return {part: SourceSpec(path, version.kind, SourceOptions(part)) for part in parts(path)}
    root = os.path.join(path, "")
    located = find_archive(root)
    assert located is not None
    name = os.fsdecode(located[0].only_file() or b"")
    if name and kind in (None, file_kind(name)) and file_kind(name):
        found, note = find_sources(root + name, kind, options), f"read as the one file in it, {name}"
    else:
        found, note = _in_folder(root, kind, options), "read as the folder in it"
    notes = (note, *located[0].notes)
    return {split: replace(spec, notes=(*notes, *spec.notes)) for split, spec in found.items()}


def _in_folder(path: str, kind: str | None, options: SourceOptions) -> dict[str, SourceSpec]:
    known = _known_names(path)
    if known and kind in (None, next(iter(known.values())).kind):
        return known
    refuse_dataset(path)
    found = _folder_specs(path, kind, options)
    if kind in FILE_KINDS and any(spec.kind == kind and is_folder(spec.path) for spec in found.values()):
        raise SourceError(f"kind {kind!r} is a file, this is a folder").at(file=path)
    return found


def _known_names(path: str) -> dict[str, SourceSpec]:
    """MNIST, CIFAR, LMDB and Zarr, which their files' names tell."""
    images = image_files(path)
    if images:
        return {part: SourceSpec(path, "mnist", SourceOptions(part)) for part in images}
    version = find_version(path)
    if version:
        return {part: SourceSpec(path, version.kind, SourceOptions(part)) for part in parts(path)}
    if is_lmdb(path):
        return {"": SourceSpec(path, "lmdb")}
    return zarr.parts(path) if zarr.is_store(path) else {}


def _folder_specs(path: str, kind: str | None, options: SourceOptions) -> dict[str, SourceSpec]:
    folder = Folder(path)
    matches = _matches(folder, kind, options)
    notes = (*hidden(folder.hidden), *(left_out(folder.clutter) if kind != "file_groups" else ()))
    if kind is not None:
        found = _forced(folder, kind, matches, options)
        return {split: replace(spec, notes=(*notes, *spec.notes)) for split, spec in found.items()}
    best = max(matches, key=lambda match: (match.certainty, -len(match.left_out)), default=None)
    if best is None or best.certainty < Certainty.CERTAIN:
        inside = split_paths(folder)
        if inside:
            return _split_specs(folder, inside, None, options)
        only = _only_folder(folder)
        if only:
            found = _in_folder(only, None, options)
            text = f"everything lies in {os.path.basename(only)}/, which was taken for the source"
            notes = (text, *left_out(folder.own), *notes)
            return {split: replace(spec, notes=(*notes, *spec.notes)) for split, spec in found.items()}
    if best is None:
        raise unexplained(folder)
    refuse_to_leave_most(folder, best)
    return {split: replace(spec, notes=(*best.notes, *notes, *spec.notes)) for split, spec in best.specs.items()}


def _matches(folder: Folder, kind: str | None, options: SourceOptions) -> list[Match]:
    """What each kind makes of a folder. One that cannot decide counts only if no other kind is asked for.

    Groups of files, which nearly any folder could be, are looked for where nothing surer was found.
    """
    found: list[Match] = []
    for name, extensions in _RECOGNISERS.items():
        surer = kind is None and any(match.certainty > Certainty.POSSIBLE for match in found)
        if (surer and name == _LAST_RESORT) or not (extensions is None or extensions & folder.extensions):
            continue
        try:
            match: Match | None = _module(name).recognise(folder, options)
        except SourceError:
            if kind in (None, name.rpartition(".")[2]):
                raise
            continue
        if match is not None:
            found.append(match)
    return found


def _module(name: str) -> Any:
    """A module of this package."""
    return import_module(f"recordio.writer.sources.{name}")


def _forced(folder: Folder, kind: str, matches: list[Match], options: SourceOptions) -> dict[str, SourceSpec]:
    """The sources of a kind that the caller named: its own splits, or splits of any kind, or the folder itself."""
    own = [match for match in matches if match.kind == kind and "" not in match.specs]
    if own:
        return own[0].specs
    inside = split_paths(folder)
    if inside:
        return _split_specs(folder, inside, kind, options)
    if kind in FILE_SET_KINDS and all(match.kind != kind for match in matches):
        return file_sets.forced(folder, kind)
    found = next((match.specs[""] for match in matches if match.kind == kind), SourceSpec(folder.path, kind))
    return {"": replace(found, options=replace(found.options, forced=True))}


def _only_folder(folder: Folder) -> str | None:
    """The one folder that holds everything, if it holds more than files; None otherwise."""
    inside = [name for name in folders(os.fsencode(folder.path)) if not is_clutter(name + b"/")]
    data = (is_picture(name) or file_kind(os.fsdecode(name)) not in (None, "text_lines") for name in folder.own)
    if len(inside) != 1 or any(data):
        return None
    path = os.path.join(folder.path, os.fsdecode(inside[0]))
    has_folders = any(b"/" in name for name in folder.folders.get(os.fsdecode(inside[0]), ()))
    return path if has_folders or _known_names(path) else None


def _split_specs(
    folder: Folder, inside: dict[str, str], kind: str | None, options: SourceOptions
) -> dict[str, SourceSpec]:
    found: dict[str, SourceSpec] = {}
    for split, path in inside.items():
        specs = find_sources(path, kind, options)
        if "" not in specs:
            text = f"the split {split!r} holds splits itself ({', '.join(specs)}); give its folder"
            raise SourceError(text).at(file=path)
        found[split] = specs[""]
    # A label must mean the same class in every split, even if a split lacks a class.
    labelled = [spec.path for spec in found.values() if spec.kind in MEDIA]
    classes = tuple(sorted({name for root in labelled for name in class_names(os.fsencode(root))}))
    notes = (*renamed(inside), *hidden(folder.hidden), *_beside(folder, inside))
    return {
        split: replace(
            spec,
            notes=(*notes, *spec.notes),
            options=replace(spec.options, classes=classes) if spec.kind in MEDIA else spec.options,
        )
        for split, spec in found.items()
    }


def _beside(folder: Folder, inside: dict[str, str]) -> tuple[str, ...]:
    """A note about what belongs to no split. Raises SourceError if that is most of the pictures, sounds and texts."""
    used = {os.path.basename(path) for path in inside.values()}
    rest = [name for name in folder.names if os.fsdecode(name.partition(b"/")[0]) not in used]
    media = [name for name in rest if is_picture(name) or is_sound(name)]
    if 2 * len(media) > sum(is_picture(name) or is_sound(name) for name in folder.names):
        raise SourceError(
            f"taken for splits ({', '.join(inside)}), most files would be left out: {by_extension(media)}; "
            "move the others away, or give the folders one by one"
        ).at(file=folder.path)
    empty = [os.fsdecode(entry.name) for entry in entries(os.fsencode(folder.path))]
    others = sorted(set(empty) - used - {os.fsdecode(name.partition(b"/")[0]) for name in (*rest, *folder.clutter)})
    notes = (f"{', '.join(map(repr, others[:5]))}: left out, beside the splits",) if others else ()
    return (*(f"beside the splits, {note}" for note in left_out([*rest, *folder.clutter])), *notes)
