"""What users give to say how a store is reached."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from recordio import SchemaError
from recordio.edit.copy_ends import open_end
from recordio.remote.opening import dataset_access
from recordio.remote.options import StorageOptions
from recordio.remote.urls import checked_url, is_url, local_path, shown
from recordio.writer.convert.publication import open_publication
from recordio.writer.destination import open_destination

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"regoin": "x"}, "storage has no option 'regoin': expected endpoint, region"),
        ([], "storage is a dict of options, not list"),
        ({"endpoint": "127.0.0.1:9000"}, r"storage\['endpoint'\] is a URL that begins with https://"),
        ({"endpoint": 9000}, r"storage\['endpoint'\] is a text, not int"),
        ({"region": ""}, r"storage\['region'\] is a text"),
        ({"anonymous": "yes"}, r"storage\['anonymous'\] is True or False"),
        ({"credentials": {"access_key_id": "secret"}}, r"storage\['credentials'\] is a function"),
        ({"max_connections": 0}, r"storage\['max_connections'\] is 0: expected an integer from 1"),
        ({"max_requests_per_second": 0}, r"storage\['max_requests_per_second'\] is 0: expected a number > 0"),
        ({"max_mbytes_per_second": "fast"}, r"expected a number > 0"),
        ({"retry_seconds": float("nan")}, r"storage\['retry_seconds'\] is nan"),
        ({"timeout_seconds": -1}, r"storage\['timeout_seconds'\] is -1"),
        ({"headers": {"a": 1}}, r"storage\['headers'\] is a dict of texts"),
        ({"root_certificate": "/none/ca.pem"}, r"storage\['root_certificate'\] is PEM, or the path of a file"),
        ({"proxy": "socks"}, r"storage\['proxy'\] is a URL"),
    ],
)
def test_wrong_options(given: Any, words: str) -> None:
    with pytest.raises(SchemaError, match=words) as caught:
        StorageOptions.of(given)
    assert "secret" not in str(caught.value)


def test_good_options() -> None:
    options = StorageOptions.of({"headers": {"a": "b"}, "max_mbytes_per_second": 10, "root_certificate": PEM})
    assert options.message()["credentials"] is False
    assert options.message()["headers"] == {"a": "b"}
    assert StorageOptions.of(options) is options
    assert len({options, StorageOptions()}) == 2


def test_a_certificate_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    assert StorageOptions(root_certificate=str(tmp_path / "ca.pem")).root_certificate == PEM
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(SchemaError, match="a file without a line"):
        StorageOptions(root_certificate=str(tmp_path / "ca.pem"))


def test_no_secret_in_the_text_of_options() -> None:
    options = StorageOptions(
        endpoint="https://user:secret@host", proxy="http://user:secret@proxy", headers={"x": "secret"}, query="secret"
    )
    assert "secret" not in repr(options)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/data", "no object store is known by ftp://"),
        ("s3://key:secret@bucket/data", "credentials do not belong into a URL: s3://bucket/data"),
        ("https:///data", "names no bucket or host"),
        ("s3://bucket/data?versionId=secret", "takes no query"),
        ("abfss://box:secret@account.dfs.core.windows.net/data", "credentials do not belong"),
    ],
)
def test_wrong_urls(url: str, words: str) -> None:
    with pytest.raises(SchemaError, match=words) as caught:
        checked_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("https://host:8443/a/?sig=1#part", "https://host:8443/a?sig=1"),
        ("abfss://box@account.dfs.core.windows.net/data", "abfss://box@account.dfs.core.windows.net/data"),
        ("hf://datasets/org/name@v1/data/", "hf://datasets/org/name@v1/data"),
    ],
)
def test_good_urls(url: str, expected: str) -> None:
    assert checked_url(url) == expected
    assert shown(checked_url(url)) == expected.partition("?")[0]


def test_files_by_url(tmp_path: Path) -> None:
    assert not is_url(f"file://{tmp_path}/a%20b")
    assert local_path(f"file://{tmp_path}/a%20b") == f"{tmp_path}/a b"
    assert dataset_access("path", f"file://{tmp_path}/x", None)[0] == f"{tmp_path}/x"


def test_the_query_of_a_url_is_an_option() -> None:
    location, options = dataset_access("path", "https://host/data/?sv=1&sig=secret", {"retry_seconds": 1})
    assert (location, options.query, options.retry_seconds) == ("https://host/data", "sv=1&sig=secret", 1)


def test_the_documentation_has_all_options() -> None:
    text = (Path(__file__).parents[3] / "docs" / "remote.md").read_text("utf-8")
    table = text.partition("## Options")[2].partition("**Credentials")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [one.name for one in fields(StorageOptions)]


@pytest.mark.parametrize("opened", [open_destination, open_publication, open_end])
def test_a_writer_shows_no_query_and_sends_it(opened: Any) -> None:
    place = opened("path", "https://host/data/?sv=1&sig=secret", None)
    target = getattr(place, "target", None) or place._target
    assert place.location == target.url == "https://host/data"
    assert target.options.query == "sv=1&sig=secret"
