"""URLs of datasets, and how they are shown: without user, password and query, which may hold secrets."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from recordio.errors import SchemaError

SCHEMES = ("s3", "gs", "az", "abfs", "abfss", "https", "http", "hf")


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path names an object store; "file://..." is a path, and so is everything without "://"."""
    return "://" in os.fspath(path) and not os.fspath(path).startswith("file://")


def local_path(path: str | os.PathLike[str]) -> str:
    """The path of a folder on this machine, of a plain path or of "file:///..."."""
    text = os.fspath(path)
    return unquote(urlsplit(text).path) if text.startswith("file://") else text


def checked_url(url: str) -> str:
    """The URL without a slash at its end. Raises SchemaError for another scheme, credentials, no host."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise SchemaError(f"no object store is known by {parts.scheme}://: expected {', '.join(SCHEMES)}")
    container = parts.scheme in ("abfs", "abfss") and parts.password is None  # abfss://CONTAINER@ACCOUNT...
    if parts.username is not None and not container:
        raise SchemaError(f"credentials do not belong into a URL: {shown(url)}; give storage={{'credentials': ...}}")
    if not parts.hostname:
        raise SchemaError(f"{shown(url)} names no bucket or host")
    if parts.query and parts.scheme not in ("http", "https"):
        raise SchemaError(f"{shown(url)} takes no query: give storage={{...}} instead")
    return parts._replace(path=parts.path.rstrip("/"), fragment="").geturl()


def shown(url: str) -> str:
    """The URL as people may see it."""
    parts = urlsplit(url)
    keeps = parts.scheme in ("abfs", "abfss") and parts.password is None
    host = parts.netloc if keeps else parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()
