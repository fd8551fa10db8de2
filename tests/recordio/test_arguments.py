"""Checks of user arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recordio import DatasetError, DatasetWriter, SchemaError, ShardDataset, verify
from recordio.arguments import folder_path


@pytest.mark.parametrize("value", ["data", Path("data"), b"data"])
def test_a_path_of_any_kind_is_text(value: Any) -> None:
    assert folder_path("path", value) == "data"


@pytest.mark.parametrize("value", ["C:/data", "a:b", "s3:/bucket", "://x", "1://x"])
def test_a_colon_makes_no_url(value: str) -> None:
    assert folder_path("path", value) == value


@pytest.mark.parametrize("use", [DatasetWriter, ShardDataset, verify])
@pytest.mark.parametrize(
    ("value", "error", "fault"),
    [
        ("", DatasetError, "path is empty"),
        ("ftp://host/data", SchemaError, "no object store is known by ftp://"),
        (None, SchemaError, "path is a path, not NoneType"),
        (7, SchemaError, "path is a path, not int 7"),
    ],
)
def test_no_folder_is_refused(
    use: Any, value: Any, error: type[Exception], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=fault):
        use(value)
    assert not list(tmp_path.iterdir())
