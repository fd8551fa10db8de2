"""Installs the project from zip archives of the tree, where the three links in recordio/ are something else, and once
without a C compiler.

Archives of git and GitHub store a link as a small file with a flag that many programs, pip among them, do not heed: it
becomes a text file. Other programs store the files that a link leads to. Whatever is in the tree must be installed.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

TOP = Path(__file__).parents[1]
LINKED = ("reader", "writer", "tools")


def tracked() -> list[str]:
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and os.path.lexists(TOP / name)]


def links_as_text(names: list[str]) -> Iterator[tuple[zipfile.ZipInfo | str, bytes]]:
    for name in names:
        if (TOP / name).is_symlink():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            yield info, os.readlink(TOP / name).encode()
        else:
            yield name, (TOP / name).read_bytes()


def links_followed(names: list[str]) -> Iterator[tuple[zipfile.ZipInfo | str, bytes]]:
    for name in names:
        if not (TOP / name).is_symlink():
            data = (TOP / name).read_bytes()
            yield name, data
            if name.startswith(tuple(f"{linked}/" for linked in LINKED)):
                yield f"recordio/{name}", data


def modules(names: list[str]) -> set[str]:
    """The modules of the tree, by their places in an installed package."""
    found = {name for name in names if name.endswith(".py") and name.startswith("recordio/")}
    inside = {name for name in names if name.endswith(".py") and name.startswith(tuple(f"{x}/" for x in LINKED))}
    return found | {f"recordio/{name}" for name in inside}


LISTING = """
import importlib.metadata
import recordio.reader, recordio.writer, recordio.tools
print(*importlib.metadata.files("recordio-shards"), sep="\\n")
"""


def installed(archive: Path, folder: Path, has_compiler: bool) -> set[str]:
    """The modules that a fresh environment has after `pip install ARCHIVE`."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", str(archive)]
    subprocess.run(pip, check=True, cwd=folder, env=os.environ | ({} if has_compiler else {"CC": "false"}))
    listing = subprocess.run([python, "-c", LISTING], check=True, cwd=folder, stdout=subprocess.PIPE, text=True).stdout
    words = [str(folder / "bin" / "recordio"), "--version", "-v"]
    version = subprocess.run(words, check=True, cwd=folder, stdout=subprocess.PIPE, text=True).stdout
    print(version, end="")
    if ("kernels in C: in use" in version) is not has_compiler:
        sys.exit(f"with{'' if has_compiler else 'out'} a C compiler")
    return {name for name in listing.split("\n") if name.startswith("recordio/") and name.endswith(".py")}


def main() -> None:
    names = tracked()
    kinds: list[tuple[Callable[[list[str]], Iterator[tuple[zipfile.ZipInfo | str, bytes]]], bool]]
    found = bool(shutil.which("cc") or shutil.which("gcc"))
    kinds = [(links_as_text, found), (links_followed, found), (links_as_text, False)]
    for entries, has_compiler in kinds:
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "recordio.zip"
            with zipfile.ZipFile(archive, "w") as out:
                for name, data in entries(names):
                    out.writestr(name, data)
            differing = installed(archive, Path(scratch) / "venv", has_compiler) ^ modules(names)
        if differing:
            sys.exit(f"{entries.__name__}: in the tree or the installed package, but not both: {sorted(differing)}")
        print(f"{entries.__name__}: all {len(modules(names))} modules are installed", flush=True)


if __name__ == "__main__":
    main()
