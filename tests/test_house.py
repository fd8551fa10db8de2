"""The house: which way imports go, which names are public, what an import costs, what lies at the top."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import recordio

TOP = Path(__file__).parents[1]
PACKAGE = Path(recordio.__file__).parent  # the tree, or an installed wheel
FOLDERS = {"recordio": PACKAGE} | {name: PACKAGE / name for name in ("writer", "reader", "tools")}
MAY_IMPORT = {
    "recordio": {"recordio"},
    "writer": {"recordio", "writer"},
    "reader": {"recordio", "reader"},
    "tools": {"recordio", "writer", "reader", "tools"},
}
DOORS = {"__main__.py": "tools", "torch.py": "reader"}  # `python -m recordio` and `recordio.torch` lead elsewhere
SOURCES = [
    (DOORS.get(path.name, home) if folder == PACKAGE else home, path)
    for home, folder in FOLDERS.items()
    for path in sorted(folder.glob("*.py") if folder == PACKAGE else folder.rglob("*.py"))
]
PUBLIC = """
    Array Bytes ConcatDataset CorruptError DataLoader DatasetError DatasetWriter DecodeError Image MissingPackageError
    Mixture Object RecordIOError Scalar Schema SchemaError ShardDataset SourceError StorageError Text UnsupportedError
    WorkerError __version__ class_weights convert transforms verify
""".split()
MAX_LINES = 400
MAX_FUNCTION_LINES = 40


every_source = pytest.mark.parametrize(
    ("home", "path"), SOURCES, ids=[str(path.relative_to(PACKAGE)) for _, path in SOURCES]
)


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but what only a type checker sees."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _runtime_nodes(child)


def _imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names that a module imports, at the top or inside a function."""
    for node in _runtime_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _home_of(name: str) -> str | None:
    """The folder that a dotted name lies in; None when it is not ours."""
    first, second, *_ = [*name.split("."), ""]
    if first != "recordio":
        return first if first in FOLDERS else None
    return second if second in FOLDERS else "recordio"


def test_the_four_folders_hold_code() -> None:
    assert {home for home, _ in SOURCES} == set(FOLDERS)


@every_source
def test_imports_go_one_way(home: str, path: Path) -> None:
    homes = {name: _home_of(name) for name in _imported(ast.parse(path.read_text("utf-8")))}
    wrong = [name for name, found in homes.items() if found is not None and found not in MAY_IMPORT[home]]
    assert not wrong, f"{path.relative_to(PACKAGE)} may import {sorted(MAY_IMPORT[home])} only"


@every_source
def test_our_modules_are_imported_by_their_full_names(home: str, path: Path) -> None:
    names = list(_imported(ast.parse(path.read_text("utf-8"))))
    assert not [name for name in names if name.split(".")[0] in ("writer", "reader", "tools")]


@pytest.mark.parametrize(
    ("line", "names", "home"),
    [
        ("import recordio.reader.open_dataset", ["recordio.reader.open_dataset"], "reader"),
        ("from recordio.writer import convert", ["recordio.writer.convert"], "writer"),
        ("from recordio import reader", ["recordio.reader"], "reader"),
        ("def f():\n    from recordio.tools.main import main", ["recordio.tools.main.main"], "tools"),
        ("from recordio.format.schema import Schema", ["recordio.format.schema.Schema"], "recordio"),
        ("import numpy", ["numpy"], None),
        ("if TYPE_CHECKING:\n    import recordio.reader.open_dataset", [], None),
    ],
)
def test_an_import_is_seen_wherever_it_stands(line: str, names: list[str], home: str | None) -> None:
    found = list(_imported(ast.parse(line)))
    assert found == names
    assert all(_home_of(name) == home for name in found)


@every_source
def test_a_file_fits_in_the_head_and_a_function_in_the_eye(home: str, path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= MAX_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not [f"{f.name}: {_lines_of_code(f)} lines" for f in functions if _lines_of_code(f) > MAX_FUNCTION_LINES]


def _lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of the body after the docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@every_source
def test_a_module_says_what_it_is_for(home: str, path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def test_the_public_names_are_these() -> None:
    assert recordio.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(recordio))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_resolves(name: str) -> None:
    assert getattr(recordio, name) is not None


def test_every_error_of_the_tree_is_public() -> None:
    def tree(error: type[Exception]) -> set[str]:
        ours = {error.__name__} if error.__module__.startswith("recordio") else set()
        return ours.union(*map(tree, error.__subclasses__()))

    assert tree(recordio.RecordIOError) <= set(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = recordio.nonsense


def test_a_type_checker_and_the_interpreter_are_told_the_same_homes() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    told = {a.name: n.module for b in blocks for n in b.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert told == recordio._HOMES | {"transforms": "recordio"}
    assert recordio.torch.DataLoader.__module__ == "recordio.reader.torch.loader"


def _loaded_after(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(out.stdout.split())


HEAVY = {"numpy", "torch", "pandas", "cv2", "PIL", "simplejpeg", "zstandard", "msgpack", "xxhash", "multiprocessing"}


@pytest.mark.parametrize("code", ["import recordio", "import recordio.tools.main"])
def test_an_import_loads_nothing_heavy(code: str) -> None:
    loaded = _loaded_after(code)
    assert "recordio.errors" in loaded
    assert not loaded & HEAVY


def test_reading_needs_no_optional_package() -> None:
    loaded = _loaded_after(
        "import recordio\nrecordio.ShardDataset, recordio.DataLoader, recordio.DatasetWriter, recordio.verify"
    )
    assert "recordio.reader.dataset" in loaded
    assert not loaded & {"torch", "pandas", "cv2", "PIL", "simplejpeg"}


@pytest.mark.parametrize("name", ["README.md", "FORMAT.md", "CHANGELOG.md", "LICENSE"])
def test_what_a_visitor_looks_for_is_at_the_top(name: str) -> None:
    assert (TOP / name).stat().st_size > 0


def test_the_version_is_written_once_in_effect() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == recordio.__version__ == importlib.metadata.version("recordio")


def test_the_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_the_command_is_installed() -> None:
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="recordio")
    assert command.value == "recordio.tools.main:main"
    assert callable(command.load())
