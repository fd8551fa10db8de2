"""`--storage KEY=VALUE` becomes the library's `storage=`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from recordio.errors import SchemaError
from recordio.remote.options import StorageOptions
from recordio.tools.storage_option import add_storage_option


def parsed(*words: str, **defaults: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser(**defaults)
    add_storage_option(parser)
    return parser.parse_args(words)


def test_settings_are_collected_with_their_types() -> None:
    words = ("endpoint=http://127.0.0.1:9000", "anonymous=true", "max_connections=8", 'headers={"a": "b"}')
    given = parsed(*(part for word in words for part in ("--storage", word))).storage
    assert given == {
        "endpoint": "http://127.0.0.1:9000",
        "anonymous": True,
        "max_connections": 8,
        "headers": {"a": "b"},
    }
    assert StorageOptions.of(given).anonymous


def test_without_the_option_nothing_is_passed_on() -> None:
    assert parsed().storage is None
    assert not hasattr(parsed(argument_default=argparse.SUPPRESS), "storage")


def test_a_file_gives_its_content(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN")
    assert parsed("--storage", f"root_certificate=@{tmp_path / 'ca.pem'}").storage == {"root_certificate": "-----BEGIN"}


@pytest.mark.parametrize("word", ["region", "=x", "credentials=key", "root_certificate=@/nowhere"])
def test_a_wrong_setting_is_refused_by_the_parser(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--storage", word)
    assert "error: argument --storage: " in capsys.readouterr().err


@pytest.mark.parametrize(("given", "text"), [({"regio": "x"}, "no option 'regio'"), ({"anonymous": "yes"}, "True or")])
def test_the_library_refuses_unknown_names_and_words_for_flags(given: dict[str, Any], text: str) -> None:
    with pytest.raises(SchemaError, match=text):
        StorageOptions.of(given)
