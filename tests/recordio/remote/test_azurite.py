"""Azurite, Microsoft's own stand-in for Azure: `npm install -g azurite`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from recordio import StorageError
from tests.recordio.remote.faulty_server import free_port
from tests.recordio.remote.racing_writers import RACES, one_wins
from tests.recordio.remote.real_servers import program, running, upload
from tests.recordio.remote.stored_dataset import COUNT, Stored, numbers

pytestmark = pytest.mark.timeout(300)  # the server starts first
RIGHT = list(range(COUNT))
ACCOUNT = "devstoreaccount1"
# The key is Azurite's own, of its documentation.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, stored: Stored) -> Iterator[dict[str, Any]]:
    azurite = program("azurite-blob", "npm install -g azurite")
    folder, port = tmp_path_factory.mktemp("azurite"), free_port()
    command = [azurite, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    with running([*command, "--skipApiVersionCheck", "--disableTelemetry", "--silent"], port, folder):
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        _make_container(endpoint, "box")
        options = {"endpoint": endpoint, "account": ACCOUNT, "credentials": key, "retry_seconds": 20.0}
        upload("az://box/data", options, stored.objects)
        yield options


def key() -> dict[str, Any]:
    return {"access_key": KEY}


def _make_container(endpoint: str, name: str) -> None:
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
    words = "\n".join(f"{key}:{value}" for key, value in headers.items())
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\n{words}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
    headers |= {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 201


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("url", ["az://box/data", "abfs://box/data"])
def test_reading(url: str, storage: dict[str, Any], cache: bool, tmp_path: Path) -> None:
    for _ in range(2):
        assert numbers(url, storage, tmp_path if cache else None) == RIGHT


def test_credentials_of_the_environment(storage: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    assert numbers("az://box/data", {"endpoint": storage["endpoint"]}) == RIGHT


@pytest.mark.parametrize(
    ("changed", "url", "words"),
    [
        ({"credentials": lambda: {"access_key": "d3Jvbmc="}}, "az://box/data", "check the credentials"),
        ({"anonymous": True, "credentials": None}, "az://box/data", "no such|denied|no manifest"),
        ({}, "az://no-such-box/data", "there is no such bucket"),
        ({}, "az://box/nothing", "there is no manifest.json"),
    ],
)
def test_refusals(storage: dict[str, Any], changed: dict[str, Any], url: str, words: str) -> None:
    with pytest.raises(Exception, match=words) as caught:
        numbers(url, storage | changed)
    assert isinstance(caught.value, StorageError) or "nothing" in url or "anonymous" in changed
    assert KEY not in str(caught.value)


def test_of_two_writers_one_wins(storage: dict[str, Any]) -> None:
    one_wins("az://box/races", storage, RACES)
