"""How hard property tests try, which tests are left out where PyTorch is not installed, and a bucket."""

from __future__ import annotations

import ast
import gc
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.effort import FACTOR, LONG, load_profile

HERE = Path(__file__).parent
WITHOUT_TORCH = os.environ.get("RECORDIO_TEST_WITHOUT_TORCH", "0") == "1"

load_profile()


def _imports_torch(path: Path) -> bool:
    """Whether a module imports PyTorch at its top."""
    names: list[str] = []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return any(f"{name}.".startswith(("torch.", "recordio.torch.", "recordio.reader.torch.")) for name in names)


left_out = [str(path.relative_to(HERE)) for path in sorted(HERE.rglob("test_*.py")) if _imports_torch(path)]
collect_ignore = left_out if WITHOUT_TORCH else []


def pytest_configure() -> None:
    if not WITHOUT_TORCH and find_spec("torch") is None:
        raise pytest.UsageError(
            "PyTorch is not installed; RECORDIO_TEST_WITHOUT_TORCH=1 leaves out the tests that need it"
        )


def pytest_report_header() -> list[str]:
    effort = f"effort: {FACTOR} times the ordinary number of examples"
    if not WITHOUT_TORCH:
        return [effort, "torch: required"]
    return [effort, f"torch: NOT TESTED; left out are the tests marked `torch` and {', '.join(left_out)}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if WITHOUT_TORCH:
        need_it = [item for item in items if item.get_closest_marker("torch")]
        items[:] = [item for item in items if item not in need_it]
        config.hook.pytest_deselected(items=need_it)
    for item in items if LONG else ():
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0] if marker else config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(seconds * FACTOR), append=False)


def pytest_collection_finish() -> None:
    """Leaves the tests themselves, and all that they imported, out of garbage collections: 0.4 s of each leak check."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def bucket() -> Iterator[Any]:
    """A `tests.recordio.remote.buckets.Bucket`, of which each test takes a folder of its own."""
    from tests.recordio.remote.buckets import s3_bucket

    with s3_bucket() as found:
        yield found
