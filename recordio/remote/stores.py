"""Object stores by URL, through obstore: the one file that imports it, in the helper process alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from recordio.packages import optional
from recordio.remote.credentials import Profile, hub_token, require_azure, require_google, s3_profile
from recordio.remote.hugging_face_hub import HUB, HubPath, folder_url, resolve
from recordio.remote.request_errors import RequestError

# A limit for a whole body would fail on a slow link; a stalled one is found by `read_timeout`.
_WHOLE_BODY = "86400s"
_CONNECT_SECONDS = 5.0
# Requests are tried again outside, where the time is bounded and the number of connections follows the answers.
_NO_RETRIES = {"max_retries": 0, "retry_timeout": timedelta(seconds=600)}
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_KINDS = {"s3": "s3", "gs": "gs", "az": "az", "abfs": "az", "abfss": "az", "http": "http", "https": "http", "hf": "hf"}

CredentialProvider = Callable[[], Awaitable[dict[str, Any]]]


class Opened(NamedTuple):
    """A store, and what is known of it.

    Attributes:
        store: obstore's.
        renews: whether other credentials may be there when it is opened anew.
        pins: whether an ETag is worth a condition: where a name may come to mean another object.
    """

    store: Any
    renews: bool
    pins: bool


def obstore() -> Any:
    """The package. Raises MissingPackageError."""
    optional("obstore.store", "datasets in object stores", "remote")
    return optional("obstore", "datasets in object stores", "remote")


async def open_store(
    url: str, options: Mapping[str, Any], provider: CredentialProvider | None, **timeouts: str
) -> Opened:
    """A store whose paths are below the URL; `timeouts` in place of the usual ones.

    Raises MissingPackageError, RequestError, and obstore's errors.
    """
    kind, client = _KINDS[urlsplit(url).scheme], _client(url, options) | timeouts
    if kind == "hf":
        return await _open_hub(url, options, provider, client)
    if kind == "http":
        token = (await provider()).get("token") if provider else None
        query = f"?{options['query']}" if options["query"] else ""
        return Opened(_http_store(url + query, client, token), provider is not None, pins=True)
    profile = None
    if provider is None and not options["anonymous"]:
        profile = await asyncio.to_thread(_profile, kind)
    given = provider or (profile and profile.provider)
    shared: dict[str, Any] = {"client_options": client, "retry_config": _NO_RETRIES}
    if given is not None:
        shared["credential_provider"] = given
    region = options["region"] or (profile and profile.region)
    found = obstore().store.from_url(url, config=_config(kind, options, region), **shared)
    return Opened(found, renews=given is not None, pins=True)


async def _open_hub(
    url: str, options: Mapping[str, Any], provider: CredentialProvider | None, client: dict[str, Any]
) -> Opened:
    hub, found = (options["endpoint"] or HUB).rstrip("/"), HubPath.of(url)
    token = (await provider()).get("token") if provider else hub_token(os.environ, Path.home())
    if options["anonymous"]:
        token = None
    commit = await asyncio.to_thread(resolve, hub, found, token, options)
    return Opened(_http_store(folder_url(hub, found, commit), client, token), provider is not None, pins=False)


def _profile(kind: str) -> Profile | None:
    """What gives credentials other than the environment and the cloud. Raises RequestError if nothing does."""
    if kind == "s3":
        return s3_profile(os.environ, Path.home())
    if kind == "gs":
        require_google(os.environ, Path.home())
    else:
        require_azure(os.environ)
    return None


def _http_store(url: str, client: dict[str, Any], token: str | None) -> Any:
    if token is not None:
        client["default_headers"] = {**client.get("default_headers", {}), "Authorization": f"Bearer {token}"}
    return obstore().store.HTTPStore.from_url(url, client_options=client, retry_config=_NO_RETRIES)


def _client(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    host = urlsplit(options["endpoint"] or os.environ.get("AWS_ENDPOINT_URL") or url).hostname
    silence = options["timeout_seconds"]
    found: dict[str, Any] = {
        "allow_http": options["allow_http"] or host in _THIS_MACHINE,
        "timeout": _WHOLE_BODY,
        "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, silence)),
        "read_timeout": timedelta(seconds=silence),
        "user_agent": "recordio",
    }
    for name, key in (("proxy", "proxy_url"), ("headers", "default_headers")):
        if options[name]:
            found[key] = options[name]
    if certificate := options["root_certificate"] or _certificate_of_aws(url):
        found["root_certificate"] = certificate
    return found


def _certificate_of_aws(url: str) -> str | None:
    """The certificates that AWS's own tools are told to trust."""
    path = os.environ.get("AWS_CA_BUNDLE")
    if not path or not url.startswith("s3:"):
        return None
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise RequestError("refused", f"AWS_CA_BUNDLE names no file of certificates: {error}") from error


def _config(kind: str, options: Mapping[str, Any], region: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options["endpoint"]:
        found["base_url" if kind == "gs" else "endpoint"] = options["endpoint"]
    if options["anonymous"]:
        found["skip_signature"] = True
    if kind == "az" and options["account"]:
        found["account_name"] = options["account"]
    if kind == "s3":
        if region:
            found["region"] = region
        if options["requester_pays"]:
            found["request_payer"] = True
    return found
