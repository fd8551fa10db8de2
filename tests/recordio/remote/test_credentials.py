"""Where credentials come from, and that none are ever shown, guessed or asked of a cloud that is not there."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recordio import ShardDataset, StorageError
from recordio.remote.credentials import environment, hub_token, require_azure, require_google, s3_profile
from recordio.remote.request_errors import RequestError
from tests.recordio.remote.faulty_server import FOREVER, FaultyServer, Request
from tests.recordio.remote.stored_dataset import COUNT, MANIFEST, QUICK, SHARD, numbers

pytestmark = pytest.mark.timeout(20)
RIGHT = list(range(COUNT))
SECRET = "secret-of-the-test"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of the one who runs the tests, and no cloud."""
    for name in environment(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


class Vault:
    """A function that gives keys of which the store knows the newest only."""

    def __init__(self, server: FaultyServer) -> None:
        self.asked = 0
        self.good = 1
        server.judge = self.judge

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        expires = datetime.now(UTC) + timedelta(hours=1)
        return {"access_key_id": f"key{self.asked}", "secret_access_key": SECRET, "expires_at": expires}

    def judge(self, request: Request) -> str | None:
        return None if f"key{self.good}/" in request.headers["authorization"] else "expired"


def s3(server: FaultyServer, **options: Any) -> dict[str, Any]:
    return QUICK | {"endpoint": server.address, "region": "us-east-1"} | options


def test_refused_credentials_are_asked_for_again(server: FaultyServer) -> None:
    vault = Vault(server)
    ds = ShardDataset("s3://bucket/data", storage=s3(server, credentials=vault), cache=None)
    assert (ds[0]["number"], vault.asked) == (0, 1)
    vault.good = 2
    assert ds.take(range(COUNT))["number"].tolist() == RIGHT
    assert vault.asked == 2


def test_credentials_that_stay_bad(server: FaultyServer) -> None:
    vault = Vault(server)
    vault.good = 0
    with pytest.raises(StorageError, match="the credentials have expired"):
        numbers("s3://bucket/data", s3(server, credentials=vault))
    assert vault.asked == 2
    assert len(server.asked(f"data/{MANIFEST}")) == 2


def test_a_function_that_fails(server: FaultyServer) -> None:
    def broken() -> dict[str, Any]:
        raise KeyError("no vault")

    with pytest.raises(StorageError, match=r"has failed: KeyError: 'no vault'"):
        numbers("s3://bucket/data", s3(server, credentials=broken))
    with pytest.raises(StorageError, match=r"gives 'key', expected access_key_id and secret_access_key"):
        numbers("s3://bucket/data", s3(server, credentials=lambda: {"key": SECRET}))
    with pytest.raises(StorageError, match=r"has failed"):
        numbers("s3://bucket/data", s3(server, credentials=lambda: None))


def test_of_the_environment_as_it_is_by_then(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"no credentials for S3 were found: AWS_ACCESS_KEY_ID is not set"):
        numbers("s3://bucket/data", s3(server))
    assert server.requests == []
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-in-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert numbers("s3://bucket/data", s3(server)) == RIGHT
    assert "key-in-the-environment" in server.requests[0].headers["authorization"]


def test_endpoint_and_region_of_the_environment(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    monkeypatch.setenv("AWS_REGION", "mars-north-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert numbers("s3://bucket/data", QUICK) == RIGHT
    assert "/mars-north-1/" in server.requests[0].headers["authorization"]


def test_of_a_profile(server: FaultyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(f"[lab]\naws_access_key_id=of-lab\naws_secret_access_key={SECRET}\n")
    (tmp_path / ".aws" / "config").write_text("[profile lab]\nregion=eu-west-9\n")
    options = QUICK | {"endpoint": server.address}
    with pytest.raises(StorageError, match=r"boto3 finds none in ~/\.aws"):
        numbers("s3://bucket/data", options)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert numbers("s3://bucket/data", options) == RIGHT
    assert "of-lab/" in server.requests[0].headers["authorization"]
    assert "/eu-west-9/" in server.requests[0].headers["authorization"]


def test_a_profile_without_boto3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(RequestError, match="pip install boto3"):
        s3_profile({"AWS_PROFILE": "lab"}, tmp_path, tmp_path)


def test_anonymous_requests_are_not_signed(server: FaultyServer) -> None:
    assert numbers("s3://bucket/data", s3(server, anonymous=True)) == RIGHT
    assert not [request for request in server.requests if "authorization" in request.headers]


def test_requester_pays(server: FaultyServer) -> None:
    key = {"access_key_id": "key", "secret_access_key": SECRET}
    assert numbers("s3://bucket/data", s3(server, credentials=lambda: key, requester_pays=True)) == RIGHT
    assert {request.headers["x-amz-request-payer"] for request in server.requests} == {"requester"}


def test_a_token_for_https(server: FaultyServer) -> None:
    tokens = iter(["old", "new"])
    server.judge = lambda request: None if request.headers["authorization"] == "Bearer new" else "401"
    options = QUICK | {"credentials": lambda: {"token": next(tokens)}, "headers": {"X-Team": "vision"}}
    assert numbers(server.dataset, options) == RIGHT
    assert {request.headers["x-team"] for request in server.requests} == {"vision"}


def test_the_clouds_of_this_machine(tmp_path: Path) -> None:
    """Their services are asked only where the firmware names them."""
    (tmp_path / "sys_vendor").write_text("Amazon EC2\n")
    assert s3_profile({}, tmp_path, tmp_path) is None
    with pytest.raises(RequestError, match="no credentials for S3"):
        s3_profile({"AWS_EC2_METADATA_DISABLED": "true"}, tmp_path, tmp_path)
    with pytest.raises(RequestError, match="gcloud auth application-default login"):
        require_google({}, tmp_path, tmp_path)
    with pytest.raises(RequestError, match="AZURE_STORAGE_SAS_TOKEN"):
        require_azure({}, tmp_path)
    (tmp_path / "sys_vendor").write_text("Google\n")
    require_google({}, tmp_path, tmp_path)
    (tmp_path / "sys_vendor").write_text("Microsoft Corporation\n")
    require_azure({}, tmp_path)
    require_azure({"AZURE_STORAGE_ACCOUNT_KEY": "key"}, tmp_path / "none")
    require_google({"GOOGLE_APPLICATION_CREDENTIALS": "file"}, tmp_path, tmp_path / "none")


def test_token_for_the_hub(tmp_path: Path) -> None:
    assert hub_token({}, tmp_path) is None
    assert hub_token({"HF_TOKEN": "one\n"}, tmp_path) == "one"
    (tmp_path / "token").write_text("two\n")
    assert hub_token({"HF_HOME": str(tmp_path)}, tmp_path) == "two"


@pytest.mark.parametrize("mode", ["denied", "signature", "expired", "503", "no-bucket", "missing"])
def test_no_secret_is_shown_or_kept(mode: str, server: FaultyServer, tmp_path: Path) -> None:
    def keys() -> dict[str, Any]:
        return {"access_key_id": "the-key", "secret_access_key": SECRET, "token": SECRET}

    ds = ShardDataset("s3://bucket/data", storage=s3(server, credentials=keys), cache=tmp_path / "cache")
    ds[0]
    server.fail(mode, f"data/{SHARD}", FOREVER)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        ds.take(range(COUNT))
    texts = [
        str(caught.value),
        repr(caught.value),
        repr(ds),
        repr(caught.value.__cause__),
        repr(caught.value.__context__),
    ]
    kept = [file.read_bytes() for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert not [text for text in texts if SECRET in text or "the-key" in text]
    assert not [data for data in kept if SECRET.encode() in data]


def test_the_query_of_a_url_is_on_each_request_and_nowhere_else(server: FaultyServer) -> None:
    address = f"{server.address}/bucket/data?sig={SECRET}"
    ds = ShardDataset(address, storage=QUICK, cache=None)
    assert ds.take(range(COUNT))["number"].tolist() == RIGHT
    assert {request.query for request in server.requests} == {f"sig={SECRET}"}
    assert SECRET not in repr(ds)
    assert pickle.loads(pickle.dumps(ds))[3]["number"] == 3
    with pytest.raises(Exception, match="not a recordio dataset") as caught:
        ShardDataset(address.replace("data?", "none?"), storage=QUICK, cache=None)
    assert SECRET not in str(caught.value)


def test_a_profile_gives_keys_that_are_asked_for_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n")
    profile = s3_profile({}, tmp_path, tmp_path)
    assert profile is not None
    keys = asyncio.run(profile.provider())
    assert (keys["access_key_id"], keys["secret_access_key"], keys["token"]) == ("a", "b", None)
    assert keys["expires_at"] > datetime.now(UTC)
