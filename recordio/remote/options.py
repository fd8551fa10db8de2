"""How an object store is reached: one value, taken by everything that takes a URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from recordio.arguments import flag, integer
from recordio.errors import SchemaError
from recordio.remote.urls import shown

Credentials = Callable[[], Mapping[str, Any]]


_MOST_CONNECTIONS = 4096
_PEM = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How an object store is reached. What is None is taken from the environment, as the store's own tools do.

    Attributes:
        endpoint: URL of a store that speaks S3's, Google's, Azure's or Hugging Face's language elsewhere, such as
            "http://127.0.0.1:9000".
        region: the bucket's region.
        account: the name of the account, on Azure.
        anonymous: requests are not signed: for public buckets.
        requester_pays: the one who asks pays for requests and traffic.
        credentials: a function that returns a dict: for S3 with access_key_id, secret_access_key, and token if there
            is one; for Google, https:// and hf:// with token; for Azure with access_key, sas_token or token; and
            with expires_at, a datetime or None. It is called again some minutes before that, and once more when the
            store refuses what it gave. It runs in this process, in a thread.
        root_certificate: a certificate to trust besides the system's: PEM, or the path of a file with it.
        proxy: URL of a proxy.
        headers: headers of every request.
        query: the query of every request over https://, such as a SAS; that of the dataset's URL comes here.
        allow_http: without TLS, to any host; to this machine it is allowed anyway.
        max_connections: requests at a time.
        max_requests_per_second, max_mbytes_per_second: limits of each process; None for none.
        retry_seconds: how long a failing request is tried again before it is an error.
        timeout_seconds: how long a store may send nothing before the request is made anew.
        unsafe_overwrite: write to a store that ignores conditions, where two writers at a time may destroy each other's
            dataset.
    """

    endpoint: str | None = None
    region: str | None = None
    account: str | None = None
    anonymous: bool = False
    requester_pays: bool = False
    credentials: Credentials | None = None
    root_certificate: str | None = None
    proxy: str | None = None
    headers: Mapping[str, str] | None = field(default=None, hash=False)
    query: str | None = None
    allow_http: bool = False
    max_connections: int = 64
    max_requests_per_second: float | None = None
    max_mbytes_per_second: float | None = None
    retry_seconds: float = 600.0
    timeout_seconds: float = 10.0
    unsafe_overwrite: bool = False

    def __post_init__(self) -> None:
        """Raises SchemaError, which shows no value that may be a secret."""
        for name in ("endpoint", "region", "account", "proxy", "query"):
            _text(name, getattr(self, name))
        for name in ("endpoint", "proxy"):
            _url(name, getattr(self, name))
        for name in ("anonymous", "requester_pays", "allow_http", "unsafe_overwrite"):
            flag(_option(name), getattr(self, name))
        if self.credentials is not None and not callable(self.credentials):
            raise SchemaError(f"{_option('credentials')} is a function that returns a dict, not a value")
        integer(_option("max_connections"), self.max_connections, 1, _MOST_CONNECTIONS)
        for name in ("max_requests_per_second", "max_mbytes_per_second"):
            _positive(name, getattr(self, name), optional=True)
        for name in ("retry_seconds", "timeout_seconds"):
            _positive(name, getattr(self, name))
        object.__setattr__(self, "root_certificate", _certificate(self.root_certificate))
        object.__setattr__(self, "headers", _headers(self.headers))

    @classmethod
    def of(cls, options: Mapping[str, Any] | Self | None) -> Self:
        """From what users give. Raises SchemaError for an unknown name."""
        if isinstance(options, cls):
            return options
        if options is not None and not isinstance(options, Mapping):
            raise SchemaError(f"storage is a dict of options, not {type(options).__name__}")
        names = [one.name for one in fields(cls)]
        given: dict[str, Any] = dict(options or {})
        if wrong := [name for name in given if name not in names]:
            raise SchemaError(f"storage has no option {wrong[0]!r}: expected {', '.join(names)}")
        return cls(**given)

    def message(self) -> dict[str, Any]:
        """For the helper, which asks for credentials."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return values | {"credentials": self.credentials is not None}

    def __repr__(self) -> str:
        """Without what may hold secrets, such as the headers."""
        kept = ("region", "account", "anonymous", "requester_pays", "max_connections")
        shown_endpoint = self.endpoint and shown(self.endpoint)
        return f"StorageOptions(endpoint={shown_endpoint!r}, {', '.join(f'{n}={getattr(self, n)!r}' for n in kept)})"


def _option(name: str) -> str:
    return f"storage[{name!r}]"


def _text(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise SchemaError(f"{_option(name)} is a text, not {type(value).__name__}")


def _url(name: str, value: str | None) -> None:
    parts = urlsplit(value or "http://none")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SchemaError(f"{_option(name)} is a URL that begins with https:// or http://")


def _positive(name: str, value: Any, optional: bool = False) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise SchemaError(f"{_option(name)} is {value!r}: expected a number > 0")


def _certificate(value: Any) -> str | None:
    """The certificates as PEM. Raises SchemaError."""
    if value is None or (isinstance(value, str) and _PEM in value):
        return value
    try:
        text = Path(value).read_text("ascii")
    except (OSError, ValueError, TypeError) as error:
        raise SchemaError(f"{_option('root_certificate')} is PEM, or the path of a file with it: {error}") from error
    if _PEM not in text:
        raise SchemaError(f"{_option('root_certificate')} names a file without a line {_PEM}")
    return text


def _headers(value: Any) -> Mapping[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise SchemaError(f"{_option('headers')} is a dict of texts")
    return dict(value)
