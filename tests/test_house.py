"""The house: which way imports go, which names are public, what an import costs, what lies at the top."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import recordio
from recordio.errors import DISTRIBUTION

TOP = Path(__file__).parents[1]
PACKAGE = Path(recordio.__file__).parent  # the tree, or an installed wheel
FOLDERS = ("writer", "reader", "tools")
BASE = {
    f"recordio.{name}"
    for name in "errors arguments determinism kernels lazy packages pickling printable process_guard".split()
}
# A room may import itself and the rooms named here. A room's name is a package, or "recordio" for the base modules.
ROOMS: dict[str, set[str]] = {}
for _room, _below in (
    ("base", ""),
    ("format", "base"),
    ("storage", "base format"),
    ("remote", "base format storage"),
    ("images", "base format"),
    ("statistics", "base format images"),
    ("display", "base format images statistics"),
    ("transforms", "base format images"),
    ("reader.order", "base format"),
    ("reader", "base format storage remote images statistics display transforms reader.order"),
    ("reader.batches", "reader *"),
    ("reader.workers", "reader.batches *"),
    ("reader.loading", "reader.workers *"),
    ("reader.torch", "reader.loading *"),
    ("writer.packing", "base format images"),
    ("writer.taken", "writer.packing *"),
    ("writer.inference", "writer.taken *"),
    ("writer.sources", "base format storage remote images writer.inference"),
    ("writer", "base format storage remote images statistics writer.packing writer.taken writer.inference"),
    ("writer.convert", "writer writer.sources *"),
    ("edit", "reader.loading writer.convert *"),
    ("exports", "edit *"),
    ("tuning", "edit *"),
    ("proof", "edit *"),
    ("salvage", "reader writer.convert *"),
    ("tools", "exports proof salvage tuning reader.torch writer.convert *"),
    ("doors", "tools *"),
):
    _named = set(_below.split()) - {"*"}
    _deeper = {deep for room in _named for deep in ROOMS[room]} if "*" in _below else set()
    ROOMS[_room] = {_room} | _named | _deeper
DOORS = {"recordio", "recordio.__main__", "recordio.ray", "recordio.torch"}  # the names for users lead everywhere
MODULES = {
    ".".join(["recordio", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for top in (PACKAGE, *(PACKAGE / name for name in FOLDERS))
    for path in sorted(top.rglob("*.py"))
}
PUBLIC = """
    Array Bytes ConcatDataset CorruptError DataLoader DatasetError DatasetWriter DecodeError Image
    MissingPackageError Mixture Object Ragged RecordIOError Scalar Schema SchemaError ShardDataset SourceError
    StorageError Text UnsupportedError WorkerError __version__ append class_weights clean compare convert copy diff
    export merge parity repair reshard sign split transforms tune verify
""".split()
MAX_LINES = 350
MAX_FUNCTION_LINES = 40
# Words that the package gave up for plainer ones, or for the field's own.
FORMER_NAMES = """
    word Step Members Deal Job IndexJob Part Made Finish Origin Draws Engine Windows LoadingWindow Done Failed Pending
    _News Sealed Store Shard Workplace room _room brief _made_of_the_good told heard
""".split()


every_source = pytest.mark.parametrize("module", MODULES)


def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


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


def _modules_imported(module: str) -> set[str]:
    """Our modules that a module imports. `from recordio.format import layout` imports the module, not its package."""
    names = [name for name in _imported(_tree(module)) if name.split(".")[0] == "recordio"]
    found = {next((name for name in (one, one.rpartition(".")[0]) if name in MODULES), one) for one in names}
    return found - {module, "recordio"}


def _room_of(module: str) -> str:
    """The room that a module lies in."""
    if module in DOORS:
        return "doors"
    if module in BASE:
        return "base"
    parts = module.split(".")[1:]
    return next(room for room in (".".join(parts[:2]), parts[0]) if room in ROOMS)


def test_the_four_folders_hold_code() -> None:
    rooms = {_room_of(module) for module in MODULES}
    assert rooms == set(ROOMS)


@every_source
def test_imports_go_one_way(module: str) -> None:
    room = _room_of(module)
    wrong = {name for name in _modules_imported(module) if _room_of(name) not in ROOMS[room]}
    assert not wrong, f"{module} is in {room}, which may import {sorted(ROOMS[room])} only"


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {module: _modules_imported(module) - DOORS for module in MODULES if module not in DOORS}
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"circles among {sorted(left)}"


@every_source
def test_our_modules_are_imported_by_their_full_names(module: str) -> None:
    assert not [name for name in _imported(_tree(module)) if name.split(".")[0] in FOLDERS]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import recordio.reader.dataset", ["recordio.reader.dataset"]),
        ("from recordio.writer import publish", ["recordio.writer.publish"]),
        ("from recordio import reader", ["recordio.reader"]),
        ("def f():\n    from recordio.tools.main import main", ["recordio.tools.main.main"]),
        ("import numpy", ["numpy"]),
        ("if TYPE_CHECKING:\n    import recordio.reader.dataset", []),
    ],
)
def test_an_import_is_seen_wherever_it_stands(line: str, names: list[str]) -> None:
    assert list(_imported(ast.parse(line))) == names


@every_source
def test_former_names_are_gone(module: str) -> None:
    tree = _tree(module)
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = (defined | arguments | attributes) & set(FORMER_NAMES)
    assert not found


@every_source
def test_a_file_fits_in_the_head_and_a_function_in_the_eye(module: str) -> None:
    text = MODULES[module].read_text("utf-8")
    assert text.count("\n") <= MAX_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not [f"{f.name}: {_lines_of_code(f)} lines" for f in functions if _lines_of_code(f) > MAX_FUNCTION_LINES]


def _lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of the body after the docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@every_source
def test_a_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(_tree(module))


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


@pytest.mark.torch
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


def test_an_epoch_of_local_files_loads_nothing_for_networks(tmp_path: Path) -> None:
    with recordio.DatasetWriter(tmp_path / "numbers") as writer:
        writer.write_batch({"x": [1, 2, 3]})
    loader = f"recordio.DataLoader(recordio.ShardDataset({str(tmp_path / 'numbers')!r}), 4, shuffle=True)"
    code = f"import recordio\nassert [batch['x'].sum() for batch in {loader}] == [6]"
    loaded = _loaded_after(code)
    assert "recordio.reader.loading.stream" in loaded
    assert not loaded & {"recordio.remote.remote_storage", "recordio.remote.page_sink"}


def test_converting_imports_nothing_slow_that_it_does_not_need() -> None:
    loaded = _loaded_after("import recordio.writer.convert.convert")
    assert "recordio.remote.credentials" in loaded
    assert not loaded & {"asyncio", "ssl", "numpy.ma"}


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
    assert project["version"] == recordio.__version__ == importlib.metadata.version(DISTRIBUTION)


def test_the_distribution_is_named_once_in_effect() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == DISTRIBUTION
    extras = project["optional-dependencies"]
    own = [need for needs in extras.values() for need in needs if need.startswith("recordio")]
    assert own
    assert all(need.startswith(f"{DISTRIBUTION}[") for need in own)


@every_source
def test_a_message_names_no_other_distribution(module: str) -> None:
    """What `pip install recordio` gets is another project."""
    assert not re.findall(
        r"(?:pip install|uv add) '?recordio\b(?!-shards)|recordio\[", MODULES[module].read_text("utf-8")
    )


def test_the_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_the_command_is_installed() -> None:
    (command,) = importlib.metadata.distribution(DISTRIBUTION).entry_points.select(group="console_scripts")
    assert command.name == "recordio"
    assert command.value == "recordio.tools.main:main"
    assert callable(command.load())
