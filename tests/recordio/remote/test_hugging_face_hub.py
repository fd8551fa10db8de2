"""hf:// against a hub on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from recordio import ShardDataset, StorageError
from recordio.remote.hugging_face_hub import HubPath, folder_url
from recordio.remote.request_errors import RequestError
from tests.recordio.remote.faulty_server import FOREVER, FaultyServer, faulty_server
from tests.recordio.remote.stored_dataset import COUNT, QUICK, Stored, numbers

pytestmark = pytest.mark.timeout(20)
RIGHT = list(range(COUNT))
COMMIT = "c0ffee" + "0" * 34
FILES = f"lab/plants/resolve/{COMMIT}/data"
ASKED = "datasets/lab/plants/revision"


@pytest.fixture
def hub(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    answer = json.dumps({"sha": COMMIT}).encode()
    with faulty_server(stored.below(FILES) | {f"{ASKED}/{one}": answer for one in ("main", "refs/pr/1")}) as found:
        yield found


def storage(hub: FaultyServer) -> dict[str, Any]:
    return QUICK | {"endpoint": hub.address}


@pytest.mark.parametrize("url", ["hf://datasets/lab/plants/data", "hf://datasets/lab/plants@refs%2Fpr%2F1/data"])
def test_a_revision_is_resolved_once(url: str, hub: FaultyServer) -> None:
    ds = ShardDataset(url, storage=storage(hub), cache=None)
    assert ds.take(range(COUNT))["number"].tolist() == RIGHT
    assert len([request for request in hub.requests if request.name.startswith(ASKED)]) == 1
    assert {request.headers["authorization"] for request in hub.requests} == {"Bearer hf_of_the_test"}
    assert not [request for request in hub.requests if "if-match" in request.headers]


def test_without_a_token(hub: FaultyServer) -> None:
    assert numbers("hf://datasets/lab/plants/data", storage(hub) | {"anonymous": True}) == RIGHT
    assert not [request for request in hub.requests if "authorization" in request.headers]


def test_files_lie_on_another_host_that_learns_no_token(hub: FaultyServer, stored: Stored) -> None:
    with faulty_server(stored.below("elsewhere")) as other:
        for name in stored.objects:
            hub.redirects[f"{FILES}/{name}"] = f"{other.address}/bucket/elsewhere/{name}?signature=1"
        assert numbers("hf://datasets/lab/plants/data", storage(hub)) == RIGHT
        assert not [request for request in other.requests if "authorization" in request.headers]
        assert {request.query for request in other.requests} == {"signature=1"}


@pytest.mark.parametrize("mode", ["503", "429", "500", "reset", "cut"])
def test_a_hub_that_fails_for_a_while(mode: str, hub: FaultyServer) -> None:
    hub.fail(mode, f"{ASKED}/main", 1)
    assert numbers("hf://datasets/lab/plants/data", storage(hub)) == RIGHT


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("401", "no dataset lab/plants with the revision main on the hub, or it is private: is the token in HF_TOKEN"),
        ("missing", r"no dataset lab/plants .* \(404\)"),
        ("503", r"the hub does not answer as it should \(503\)"),
    ],
)
def test_a_hub_that_refuses(mode: str, words: str, hub: FaultyServer) -> None:
    hub.fail(mode, f"{ASKED}/main", FOREVER)
    with pytest.raises(StorageError, match=words) as caught:
        numbers("hf://datasets/lab/plants/data", storage(hub))
    assert "hf_of_the_test" not in str(caught.value)


@pytest.mark.parametrize("url", ["hf://models/lab/plants", "hf://datasets/lab", "hf://datasets//plants"])
def test_wrong_urls(url: str) -> None:
    with pytest.raises(RequestError, match="expected hf://datasets/ORG/NAME"):
        HubPath.of(url)


def test_urls_of_files() -> None:
    found = HubPath.of("hf://datasets/lab/plants@v1/a b/c")
    assert found == ("lab/plants", "v1", "a b/c")
    assert folder_url("https://hub", found, "abc") == "https://hub/datasets/lab/plants/resolve/abc/a%20b/c"
    assert folder_url("https://hub", HubPath.of("hf://datasets/lab/plants"), "abc").endswith("/plants/resolve/abc")
