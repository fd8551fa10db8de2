"""How an object store is reached: one value, taken by everything that takes a URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from recordio.arguments import flag, integer
from recordio.errors import SchemaError

Credentials = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How an object store is reached. What is None is taken from the environment, as the store's own tools do.

    Attributes:
        endpoint: URL of a store that speaks S3's or Azure's language elsewhere, such as "http://127.0.0.1:9000".
        region: the bucket's region.
        anonymous: requests are not signed: for public buckets.
        requester_pays: the one who asks pays for requests and traffic.
        credentials: a function that returns a dict with access_key_id, secret_access_key, token and expires_at (a
            datetime, or None); it is called again some minutes before that. It runs in this process, in a thread.
        root_certificate: PEM of a certificate to trust besides the system's.
        proxy: URL of a proxy.
        headers: headers of every request.
        allow_http: without TLS, to any host; to this machine it is allowed anyway.
        max_connections: requests at a time.
        max_requests_per_second, max_mbytes_per_second: limits of each process; None for none.
        retry_seconds: how long a failing request is tried again before it is an error.
        unsafe_overwrite: write to a store that ignores conditions, where two writers at a time may destroy each other's
            dataset.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    requester_pays: bool = False
    credentials: Credentials | None = None
    root_certificate: str | None = None
    proxy: str | None = None
    headers: Mapping[str, str] | None = None
    allow_http: bool = False
    max_connections: int = 64
    max_requests_per_second: float | None = None
    max_mbytes_per_second: float | None = None
    retry_seconds: float = 600.0
    unsafe_overwrite: bool = False

    def __post_init__(self) -> None:
        integer("storage['max_connections']", self.max_connections, 1)
        for name in ("anonymous", "requester_pays", "allow_http", "unsafe_overwrite"):
            flag(f"storage['{name}']", getattr(self, name))

    @classmethod
    def of(cls, options: Mapping[str, Any] | Self | None) -> Self:
        """From what users give. Raises SchemaError for an unknown name."""
        if isinstance(options, cls):
            return options
        names = [one.name for one in fields(cls)]
        given: dict[str, Any] = dict(options or {})  # type: ignore[arg-type]
        if wrong := [name for name in given if name not in names]:
            raise SchemaError(f"storage has no option {wrong[0]!r}: expected {', '.join(names)}")
        return cls(**given)

    def message(self) -> dict[str, Any]:
        """For the helper, which asks for credentials."""
        return asdict(self) | {"credentials": self.credentials is not None}

    def __repr__(self) -> str:
        """Without certificate, proxy and headers, which may hold secrets."""
        kept = ("endpoint", "region", "anonymous", "requester_pays", "max_connections")
        return f"StorageOptions({', '.join(f'{name}={getattr(self, name)!r}' for name in kept)})"
