"""`--storage KEY=VALUE`: how an object store is reached, for every command that takes a URL."""

from __future__ import annotations

import argparse
import json
from typing import Any

_HELP = (
    "how an object store is reached, such as endpoint=http://127.0.0.1:9000, region=eu-west-1, anonymous=true or "
    "root_certificate=@ca.pem; may be given again. Credentials come from the environment"
)


def add_storage_option(parser: argparse.ArgumentParser, option: str = "--storage", what: str = "") -> None:
    """`options.storage` is a dict for the library's `storage=`; None, or not there, if it was not given."""
    parser.add_argument(option, action=_Collected, type=setting, metavar="KEY=VALUE", help=what or _HELP)


def setting(text: str) -> tuple[str, Any]:
    """'max_connections=8' -> ('max_connections', 8). Raises ArgumentTypeError.

    A value is JSON where it can be read so, else text; @FILE is what a file holds.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"not an option of a store: {text!r}; expected KEY=VALUE, such as region=x")
    if name == "credentials":
        raise argparse.ArgumentTypeError(
            "credentials come from the environment, such as AWS_ACCESS_KEY_ID: others could read them in a command line"
        )
    if value.startswith("@"):
        return name, _content(value[1:])
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error}") from error


class _Collected(argparse.Action):
    """Settings as one dict."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        name, value = values
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), name: value})
