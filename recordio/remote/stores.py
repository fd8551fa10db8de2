"""Object stores by URL, through obstore: the one file that imports it, in the helper process alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from recordio.packages import optional

# A limit for a whole body would fail on a slow link; a stalled one is found by `read_timeout`.
_TIMEOUTS = {"timeout": "600s", "connect_timeout": "5s", "read_timeout": "10s"}
# Requests are tried again outside, where the time is bounded and the number of connections follows the answers.
_NO_RETRIES = {"max_retries": 0, "retry_timeout": timedelta(seconds=600)}
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")

CredentialProvider = Callable[[], Any]


def obstore() -> Any:
    """The package. Raises MissingPackageError."""
    optional("obstore.store", "datasets in object stores", "remote")
    return optional("obstore", "datasets in object stores", "remote")


def open_store(url: str, options: Mapping[str, Any], provider: CredentialProvider | None) -> Any:
    """A store whose paths are below the URL. Raises MissingPackageError, and obstore's errors."""
    package, parts = obstore(), urlsplit(url)
    client = dict(_TIMEOUTS) | _client(url, options)
    shared: dict[str, Any] = {"client_options": client, "retry_config": _NO_RETRIES}
    if provider is not None:
        shared["credential_provider"] = provider
    if parts.scheme in ("http", "https"):
        return package.store.HTTPStore.from_url(url, client_options=client, retry_config=_NO_RETRIES)
    return package.store.from_url(url, config=_config(parts.scheme, options), **shared)


def _client(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    host = urlsplit(options["endpoint"] or url).hostname
    found: dict[str, Any] = {"allow_http": options["allow_http"] or host in _THIS_MACHINE}
    for name, key in (("proxy", "proxy_url"), ("root_certificate", "root_certificate"), ("headers", "default_headers")):
        if options[name]:
            found[key] = options[name]
    return found


def _config(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options["endpoint"]:
        found["endpoint"] = options["endpoint"]
    if options["anonymous"]:
        found["skip_signature"] = True
    if scheme == "s3":
        if options["region"]:
            found["region"] = options["region"]
        if options["requester_pays"]:
            found["request_payer"] = True
    return found
