"""Removes each check in turn and runs the tests that reach it: `python tests/mutants.py FOLDER [WORD ...]`.

A check is a condition that raises an error of ours, a handler that turns an error into one, or a call that only checks,
syncs or removes. The tree is copied to FOLDER/tree; FOLDER/coverage says which tests reach which line, and is made
first (`pip install coverage`). Words choose places that contain one. Each mutant is a line of FOLDER/mutants.txt.
"""

from __future__ import annotations

import ast
import functools
import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

TOP = Path(__file__).parents[1]
FILES = """
    recordio/format/*.py recordio/storage/*.py recordio/salvage/*.py recordio/proof/sign.py recordio/images/header.py
    reader/open_shard.py reader/opening.py reader/page_checks.py reader/page_reads.py reader/page_table.py
    reader/quarantine.py reader/shard_indexes.py reader/signed.py reader/signing_keys.py reader/value_checks.py
    reader/verify.py writer/publish.py
""".split()
TESTS = """
    tests/recordio/format tests/recordio/storage tests/recordio/salvage tests/recordio/proof tests/recordio/remote
    tests/recordio/images/test_header.py tests/faults tests/tools/test_verify.py tests/reader tests/writer
""".split()
ERRORS = {f"{name}Error" for name in "Corrupt Dataset Decode RecordIO Source Storage Unsupported".split()}
CALLS = set("check clear flock fsync refuse remove require sync unlink".split())
# Tests in processes of their own, whose lines coverage does not see, for mutants that the others let pass.
APART = {
    "recordio/format": "test_hostile_pages test_hostile_json test_integers test_bit_flips test_lengths test_names",
    "recordio/storage": "test_crashes test_names test_write_errors test_power_loss test_races test_resources",
    "recordio/salvage": "test_killed_repairs",
    "reader": "test_hostile_pages test_integers test_races test_resources",
    "writer": "test_crashes test_write_errors test_power_loss test_races test_killed_edits",
}
MOST_TESTS = 100
SECONDS = 600  # for the tests of one mutant
USAGE_ERROR = 4


class Mutant(NamedTuple):
    """A check that is taken away: lines of a file, and the text that takes their place.

    Attributes:
        file: relative to the tree.
        line: where the check begins.
        reached: a line that runs if the check is made.
        text: the whole file without the check.
        check: the check, shortened.
    """

    file: str
    line: int
    reached: int
    text: str
    check: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.check}"


def mutants(file: str) -> Iterator[Mutant]:
    """Every check of a file."""
    text = (TOP / file).read_text("utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.If) and _raises(node.body[-1]):
            yield _without(file, text, node.test, node.lineno, f"({ast.get_source_segment(text, node.test)}) and False")
        elif isinstance(node, ast.ExceptHandler) and _raises(node.body[-1]):
            yield _without(file, text, node.body[-1], node.lineno, "raise")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _checks(node.value.func):
            yield _without(file, text, node, node.lineno, "pass")


def _raises(statement: ast.stmt) -> bool:
    """Whether it raises an error of ours, or one that a function makes."""
    if not isinstance(statement, ast.Raise) or statement.exc is None:
        return False
    names = {node.id for node in ast.walk(statement.exc) if isinstance(node, ast.Name)}
    return bool(names & ERRORS) or not any(name.endswith("Error") for name in names)


def _checks(function: ast.expr) -> bool:
    name = getattr(function, "id", getattr(function, "attr", ""))
    return bool(CALLS & set(name.split("_")))


def _without(file: str, text: str, node: Any, line: int, replacement: str) -> Mutant:
    lines = [one.encode() for one in text.splitlines(keepends=True)]
    before = b"".join(lines[: node.lineno - 1]) + lines[node.lineno - 1][: node.col_offset]
    after = lines[node.end_lineno - 1][node.end_col_offset :] + b"".join(lines[node.end_lineno :])
    check = " ".join((ast.get_source_segment(text, node) or "").split())
    return Mutant(file, line, node.lineno, (before + replacement.encode() + after).decode(), check[:90])


def reaching(folder: Path, mutant: Mutant) -> list[str]:
    """The tests that run its line, those that run the fewest lines first."""
    by_line, sizes = _coverage(folder, mutant.file)
    found = sorted(by_line.get(mutant.reached, []), key=lambda name: (sizes[name], name))
    return [one for name in found if (one := _node(name))][:MOST_TESTS]


@functools.cache
def _coverage(folder: Path, file: str) -> tuple[dict[int, list[str]], Counter[str]]:
    data = importlib.import_module("coverage").CoverageData(str(folder / "coverage"))
    data.read()
    sizes: Counter[str] = Counter()
    for path in data.measured_files():
        for names in data.contexts_by_lineno(path).values():
            sizes.update(names)
    here = [path for path in data.measured_files() if path.endswith(f"/tree/{file}")]
    return (data.contexts_by_lineno(here[0]) if here else {}), sizes


def _node(name: str) -> str | None:
    """The name of a test as pytest takes it; None for one that a function makes."""
    found = re.fullmatch(r"(tests\..*?\.test_\w+)\.([\w.]+)", name)
    return f"{found[1].replace('.', '/')}.py::{found[2].replace('.', '::')}" if found else None


def passes(tree: Path, tests: list[str], seconds: float = SECONDS) -> bool:
    """Whether the tests pass in the tree. Raises TimeoutError."""
    pid = os.fork()  # with everything imported but the tree
    if not pid:
        os.setsid()
        os.chdir(tree)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        pytest = importlib.import_module("pytest")
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    deadline = time.monotonic() + seconds
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.killpg(pid, 9)
            os.waitpid(pid, 0)
            raise TimeoutError(f"no end of {len(tests)} tests after {seconds:g} s")
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(ended[1])
    if code == USAGE_ERROR:
        raise SystemExit(f"pytest does not take {tests}")
    return code == 0


def prepare(folder: Path) -> None:
    """The copy of the tree, and which tests reach which lines."""
    tree = folder / "tree"
    if not tree.exists():
        ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")
        shutil.copytree(TOP, tree, symlinks=True, ignore=ignored)
    os.environ |= {"PYTHONPATH": os.pathsep.join([str(tree), *sys.path[1:]]), "RECORDIO_TEST_BRIEF": "1"}
    sys.path[0] = str(tree)
    sys.dont_write_bytecode = True
    if not (folder / "coverage").exists():
        rules = "[run]\ndynamic_context = test_function\ninclude =\n"
        rules += "".join(f"    {tree}/{top}/*\n" for top in ("recordio", "reader", "writer"))
        (folder / "rules").write_text(f"{rules}data_file = {folder}/coverage\n")
        command = [sys.executable, "-m", "coverage", "run", f"--rcfile={folder}/rules", "-m", "pytest", "-q"]
        subprocess.run([*command, "-m", "not slow", *TESTS], cwd=tree, check=True)
    for name in ("pytest", "numpy", "xxhash", "zstandard", "msgpack", "PIL.Image"):  # not those with pytest plugins
        importlib.import_module(name)


def main(name: str, *words: str) -> None:
    folder = Path(name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    counts: Counter[str] = Counter()
    files = sorted({str(path.relative_to(TOP)) for pattern in FILES for path in TOP.glob(pattern)})
    chosen = [one for file in files for one in mutants(file) if not words or any(word in str(one) for word in words)]
    require_good(folder, chosen)
    with (folder / "mutants.txt").open("a") as log:
        for one in chosen:
            outcome = _tried(folder, one)
            counts[outcome] += 1
            print(f"{outcome}: {one}", file=log, flush=True)
    print(f"{len(chosen)} mutants: {dict(counts)}")


def apart(file: str) -> list[str]:
    """The tests in processes of their own that concern a file."""
    names = next((names for top, names in APART.items() if file.startswith(top)), "test_mutations")
    return [f"tests/faults/{name}.py" for name in names.split()]


def require_good(folder: Path, chosen: list[Mutant]) -> None:
    """Every test that is to kill a mutant passes without it."""
    for file in sorted({one.file for one in chosen}):
        tests = {test for one in chosen if one.file == file for test in reaching(folder, one)}
        if not passes(folder / "tree", sorted({*tests, *apart(file)}), 10 * SECONDS):
            raise SystemExit(f"the tests of {file} fail without a mutant")


def _tried(folder: Path, mutant: Mutant) -> str:
    target, tests = folder / "tree" / mutant.file, reaching(folder, mutant)
    whole = target.read_text("utf-8")
    target.write_text(mutant.text, "utf-8")
    try:
        has_survived = not tests or passes(folder / "tree", tests)
        return "survived" if has_survived and passes(folder / "tree", apart(mutant.file)) else "killed"
    except TimeoutError:
        return "hangs"
    finally:
        target.write_text(whole, "utf-8")
        with suppress(FileNotFoundError):
            shutil.rmtree(target.parent / "__pycache__")


if __name__ == "__main__":
    main(*sys.argv[1:])
