"""Datasets on huggingface.co: a revision is resolved to its commit once, then files are read by plain URLs."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from recordio.remote.request_errors import RequestError

HUB = "https://huggingface.co"
MOST_CONNECTIONS = 8  # the hub limits requests, those of all processes of a user together
_MOST_BYTES = 64 << 20  # of an answer that lists a dataset's files


class HubPath(NamedTuple):
    """A folder of a dataset on the hub."""

    dataset: str
    revision: str
    path: str

    @classmethod
    def of(cls, url: str) -> HubPath:
        """Of hf://datasets/ORG/NAME[@REVISION][/PATH]. Raises RequestError."""
        kind, *parts = [unquote(part) for part in (urlsplit(url).netloc + urlsplit(url).path).split("/")]
        if kind != "datasets" or len(parts) < 2 or not all(parts[:2]):
            raise RequestError("refused", "expected hf://datasets/ORG/NAME[@REVISION][/PATH]")
        name, _, revision = parts[1].partition("@")
        return cls(f"{parts[0]}/{name}", revision or "main", "/".join(parts[2:]))


def folder_url(hub: str, found: HubPath, commit: str) -> str:
    """The URL below which the files of a commit lie."""
    return f"{hub}/datasets/{found.dataset}/resolve/{commit}/{quote(found.path)}".rstrip("/")


def resolve(hub: str, found: HubPath, token: str | None, options: Mapping[str, Any]) -> str:
    """The commit of a revision: one request, which blocks. Raises RequestError."""
    url = f"{hub}/api/datasets/{found.dataset}/revision/{quote(found.revision, safe='')}"
    headers = {"User-Agent": "recordio", **(options["headers"] or {})}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, headers=headers)
    context = ssl.create_default_context(cadata=options["root_certificate"])
    handlers: list[Any] = [urllib.request.HTTPSHandler(context=context)]
    if options["proxy"]:
        handlers.append(urllib.request.ProxyHandler({"http": options["proxy"], "https": options["proxy"]}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=options["timeout_seconds"]) as answer:
            commit = json.loads(answer.read(_MOST_BYTES))["sha"]
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(found, error.code, token) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", error)
        raise RequestError("network", f"the hub does not say which commit a revision is: {reason}") from error
    if not (isinstance(commit, str) and commit.isalnum()):
        raise RequestError("answer", "the hub does not say which commit a revision is")
    return commit


def _refused(found: HubPath, status: int, token: str | None) -> RequestError:
    if status in (401, 403, 404):
        access = "is the token in HF_TOKEN allowed to read it?" if token else "private ones need a token in HF_TOKEN"
        text = f"there is no dataset {found.dataset} with the revision {found.revision} on the hub, or it is private"
        return RequestError("denied" if status != 404 else "refused", f"{text}: {access} ({status})", reached=True)
    kind = "throttled" if status in (429, 503) else "network" if status >= 500 else "refused"
    return RequestError(kind, f"the hub does not answer as it should ({status})", reached=True)
