"""`recordio view --serve`."""

from __future__ import annotations

import errno
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import recordio
from recordio.tools.main import main
from tests.tools.viewer.conftest import ATTACK
from tests.tools.viewer.html import Html


@contextmanager
def serving(path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port."""
    words = [sys.executable, "-W", "error", "-m", "recordio", "view", str(path), "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout
            found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/  \(Ctrl-C stops\)\n", process.stdout.readline())
            assert found
            yield process, int(found[1])
        finally:
            process.kill()


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def page(port: int, path: str) -> Html:
    status, _, body = get(port, path)
    assert status == 200
    return Html(body.decode("utf-8"))


def test_every_sample_is_on_some_page(photos: Path) -> None:
    with serving(photos) as (_, port):
        assert (get(port, "/")[0], get(port, "/")[1]["Location"]) == (302, "/0/")
        first, second = page(port, "/0/"), page(port, "/0/?from=60")
        assert (len(first.all("figure")), len(second.all("figure"))) == (60, 30)
        assert "Fields of all samples" in first.text
        assert "0 to 59 of 90" in first.text
        assert first.all("a", href="/0/?from=60")
        for query, start in (("75", 60), ("-1", 0), ("x", 0), ("9" * 30, 0), ("9" * 18, 60), ("", 0)):
            assert f"{start} to " in page(port, f"/0/?from={query}").text
        (link,) = [one for one in first.all("a", class_="r-full") if one["href"] == "/0/picture/7/0"]
        status, headers, body = get(port, str(link["href"]))
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert body == recordio.ShardDataset(photos, decode=None)[7]["image"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert get(port, "/0/", "HEAD")[2] == b""


@pytest.fixture
def served_photos(photos: Path) -> Iterator[int]:
    with serving(photos) as (_, port):
        yield port


def test_any_other_path_is_not_found(served_photos: int) -> None:
    pictures = ["/0/picture/90/0", "/0/picture/0/9", "/0/picture/0/1", "/0/picture/-1/0"]
    files = ["/../../etc/passwd", "/0/../../etc/passwd", "/%2e%2e/etc/passwd", "/manifest.json", "//evil.example/"]
    for path in ("/1/", "/0", *pictures, *files):
        status, headers, body = get(served_photos, path)
        assert (status, body) == (404, b"there is no such page\n")
        assert headers["Content-Type"] == "text/plain"


def test_requests_under_another_name_are_refused(served_photos: int) -> None:
    port = served_photos
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        "",
        f"127.0.0.1:{port}.x",
    ):
        status, _, body = get(port, "/0/", Host=host)
        assert (status, body) == (403, b"this server answers to its own address alone\n")
    assert get(port, "/0/", Host=f"localhost:{port}")[0] == 200
    assert get(port, "/0/", "POST")[0] == 501


def test_it_listens_on_this_machine_alone(served_photos: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.2", served_photos))  # would be taken if the server listened everywhere


def test_html_in_data_stays_text_there_too(hostile: Path) -> None:
    with serving(hostile) as (_, port):
        found = page(port, "/0/")
        assert ATTACK in found.text
        assert len(found.all("script")) == 1
        assert get(port, "/0/picture/3/0")[1]["Content-Type"] == "image/png"
        assert get(port, "/0/picture/3/2")[0] == 404  # a text is never served as a file


def test_damage_is_shown_and_serving_goes_on(damaged: Path) -> None:
    with serving(damaged) as (process, port):
        found = page(port, "/0/")
        bad = [one["data-sample"] for one in found.all("figure")]
        assert "page checksum mismatch" in found.text
        statuses = {get(port, f"/0/picture/{sample}/0")[0] for sample in bad}
        assert statuses == {200, 404}
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (130, "", "recordio: stopped\n")


def test_an_empty_dataset_is_served(tmp_path: Path) -> None:
    with recordio.DatasetWriter(tmp_path / "ds", recordio.Schema({"x": recordio.Scalar("int8")})):
        pass
    with serving(tmp_path / "ds") as (_, port):
        assert "Samples none" in page(port, "/0/").text


def test_a_client_that_leaves_is_no_error(served_photos: int) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", served_photos)) as client:
            client.sendall(f"GET /0/ HTTP/1.1\r\nHost: 127.0.0.1:{served_photos}\r\n\r\n".encode())
    assert get(served_photos, "/0/")[0] == 200


def test_a_port_that_is_taken_exits_2(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["view", str(photos), "--serve", str(taken.getsockname()[1])]) == 2
    assert os.strerror(errno.EADDRINUSE) in capsys.readouterr().err
