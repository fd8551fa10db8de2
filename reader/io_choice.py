"""Chooses how the files of a dataset are read, by their file system and by whether they fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recordio.storage.base import Storage
from recordio.storage.machine import available_nbytes, is_in_memory, is_network

Io = Literal["auto", "mmap", "pread", "direct"]

_SURELY_FITS_NBYTES = 256 << 20
_MOST_OF_MEMORY = 3 / 4  # the rest is for the process itself, and for its neighbours


@dataclass(frozen=True, slots=True)
class IoChoice:
    """How files are read.

    Attributes:
        kind: "mmap", "pread" or "direct".
        fits: whether the files fit into memory: larger ones would push out whatever else the system keeps there.
        reason: why, in a few words.
    """

    kind: Literal["mmap", "pread", "direct"]
    fits: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def choose_io(asked: Io, storage: Storage, nbytes: int) -> IoChoice:
    """The choice for a dataset of `nbytes` in all files, as asked for unless that is "auto"."""
    if storage.is_remote:
        return IoChoice("pread", True, "the files are in an object store")
    kind = storage.file_system()
    if is_in_memory(kind):
        return IoChoice("mmap" if asked == "auto" else asked, True, f"the files are in memory ({kind})")
    fits, size = fits_into_memory(nbytes)
    if asked != "auto":
        return IoChoice(asked, fits, "as asked for")
    if is_network(kind):
        return IoChoice("pread", fits, f"the files are on {kind}: a map would die with the connection")
    return IoChoice("mmap" if fits else "direct", fits, size)


def fits_into_memory(nbytes: int) -> tuple[bool, str]:
    """Whether so many bytes fit into memory, and why."""
    if nbytes <= _SURELY_FITS_NBYTES:
        return True, f"{nbytes / 1e6:.3g} MB fit into memory"
    available = available_nbytes()
    fits = nbytes <= _MOST_OF_MEMORY * available
    return fits, f"{nbytes / 1e9:.3g} GB {'fit' if fits else 'do not fit'} into {available / 1e9:.3g} GB of memory"
