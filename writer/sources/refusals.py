"""Why a folder is no source: no kind recognises it, or the one that does would leave most of it out."""

from __future__ import annotations

import os

from recordio.errors import SourceError
from recordio.writer.sources.folder import Folder, Match
from recordio.writer.sources.kinds import FILE_KINDS, file_kind, table_kind
from recordio.writer.sources.leftovers import by_extension
from recordio.writer.sources.media import container


def refuse_to_leave_most(folder: Folder, match: Match) -> None:
    """Raises SourceError for a folder that a kind would leave most files of."""
    if len(match.left_out) > match.taken:
        raise SourceError(
            f"taken for {match.kind!r}, {len(match.left_out)} of {len(folder.names)} files would be left out: "
            f"{by_extension(match.left_out)}; --kind {match.kind} (kind=) leaves them out, "
            "--kind file_groups keeps each as bytes"
        ).at(file=folder.path)


def unexplained(folder: Folder) -> SourceError:
    """Why no kind recognises a folder."""
    folder.require_files()
    if all(table_kind(os.fsdecode(name)) for name in folder.names):
        return SourceError("the folder holds tables; give one of them").at(file=folder.path)
    kinds = {file_kind(os.fsdecode(name)) for name in folder.names}
    if kinds <= {*FILE_KINDS}:
        listed = " and ".join(sorted(filter(None, kinds)))
        text = f"the folder holds files of {listed}, each of which is a source; give one of them"
        return SourceError(text).at(file=folder.path)
    known = {container(name) for name in folder.names} - {None}
    if known and all(container(name) for name in folder.names):
        what, way = sorted(filter(None, known))[0]
        text = f"the files here are no samples by themselves ({by_extension(folder.names)}): {what}; {way}"
        return SourceError(text).at(file=folder.path)
    shown = by_extension(folder.names)
    text = f"no rule explains the files here: {shown}; --kind file_groups (kind=) keeps each as bytes"
    return SourceError(text).at(file=folder.path)
