"""Folders that `save_to_disk` of Hugging Face's datasets has written: a Dataset, or a DatasetDict of splits.

state.json         names the Arrow files of a Dataset, in order
dataset_info.json  says what its columns are
dataset_dict.json  names the splits of a DatasetDict, each a folder with a Dataset
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from recordio.errors import SourceError
from recordio.writer.sources.arrow.arrow_tables import ArrowTable
from recordio.writer.sources.arrow.hf_features import features_of
from recordio.writer.sources.arrow.ipc_file import IpcFile
from recordio.writer.sources.files import exists
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.json_files import read_json
from recordio.writer.sources.leftovers import left_out
from recordio.writer.sources.source import SourceOptions, SourceSpec

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
_MAX_JSON_NBYTES = 1 << 26


def recognise(folder: Folder, options: SourceOptions) -> Match | None:
    """A folder with state.json and dataset_info.json, or with dataset_dict.json and a folder for each split."""
    own = set(folder.own)
    if {_STATE.encode(), _INFO.encode()} <= own:
        splits = {"": folder.path}
    elif _SPLITS.encode() in own:
        splits = {split: folder.file(split) for split in _split_names(folder.file(_SPLITS))}
    else:
        return None
    used: set[bytes] = {_SPLITS.encode()}
    specs = {}
    for split, path in splits.items():
        specs[split] = SourceSpec(path, "hf_dataset")
        below = os.path.join(split, "").lstrip("/")
        used |= {os.fsencode(below + name) for name in (_STATE, _INFO, *_file_names(path))}
    taken = [name for name in folder.names if name in used]
    rest = [name for name in folder.names if name not in used]
    return Match("hf_dataset", Certainty.CERTAIN, len(taken), rest, specs, left_out(rest))


def _split_names(path: str) -> list[str]:
    found = read_json(path, _MAX_JSON_NBYTES)
    names = found.get("splits") if isinstance(found, dict) else None
    if not isinstance(names, list) or not names or not all(map(_is_name, names)) or len(set(names)) < len(names):
        raise SourceError("it does not name the splits as save_to_disk does").at(file=path)
    return names


def _file_names(folder: str) -> list[str]:
    """The Arrow files of a Dataset, in order. Raises SourceError."""
    path = os.path.join(folder, _STATE)
    state = read_json(path, _MAX_JSON_NBYTES)
    found = state.get("_data_files") if isinstance(state, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) and _is_name(one.get("filename")) for one in found):
        raise SourceError("it does not name the files as save_to_disk does").at(file=path)
    if state.get("_indices_data_files"):
        raise SourceError("a Dataset with an index of its rows: flatten_indices() and save it anew").at(file=path)
    return [one["filename"] for one in found]


def _is_name(name: Any) -> bool:
    """Whether this names something in the folder itself."""
    return isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name)


class HfDataset(ArrowTable):
    """A Dataset that `save_to_disk` has written."""

    kind = "hf_dataset"
    opener = IpcFile

    def __init__(self, path: str, options: SourceOptions) -> None:
        if exists(os.path.join(path, _SPLITS)):
            raise SourceError("a DatasetDict holds several datasets: give one of its folders").at(file=path)
        names = tuple(_file_names(path))
        if not names:
            raise SourceError("there are no rows").at(file=path)
        info = read_json(os.path.join(path, _INFO), _MAX_JSON_NBYTES)
        super().__init__(path, replace(options, files=names), features_of(info))
