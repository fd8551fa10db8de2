"""nginx, as a server of plain files: `apt-get install nginx`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from recordio import ShardDataset, StorageError
from tests.recordio.remote.certificates import make_certificates
from tests.recordio.remote.faulty_server import free_port
from tests.recordio.remote.real_servers import program, running
from tests.recordio.remote.stored_dataset import COUNT, QUICK, Stored, numbers

RIGHT = list(range(COUNT))
CONFIG = """
{user}daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp;
  scgi_temp_path tmp;
  limit_req_zone $server_port zone=some:64k rate=50r/s; limit_req_status 429;
  server {{ listen 127.0.0.1:{plain}; root {folder}/root; }}
  server {{ listen 127.0.0.1:{tls} ssl; ssl_certificate {chain}; ssl_certificate_key {chain}; root {folder}/root; }}
  server {{ listen 127.0.0.1:{moved}; location / {{ return 302 http://127.0.0.1:{plain}$request_uri; }} }}
  server {{ listen 127.0.0.1:{stingy}; root {folder}/root; limit_req zone=some; }}
}}
"""


class Nginx(NamedTuple):
    """Addresses of servers that serve the same files, and what is to be trusted."""

    plain: str
    tls: str
    moved: str
    stingy: str
    root: Path
    authority: str


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, stored: Stored) -> Iterator[Nginx]:
    path = program("nginx", "apt-get install nginx")
    folder = tmp_path_factory.mktemp("nginx")
    certificates = make_certificates(folder)
    ports = {name: free_port() for name in ("plain", "tls", "moved", "stingy")}
    user = "user root; " if os.getuid() == 0 else ""  # else root's servers could not read root's files
    (folder / "conf").write_text(CONFIG.format(user=user, folder=folder, chain=certificates.chain, **ports))
    (folder / "root" / "data").mkdir(parents=True)
    for name, data in stored.objects.items():
        (folder / "root" / "data" / name).write_bytes(data)
    addresses = {name: f"http{'s' * (name == 'tls')}://127.0.0.1:{port}/data" for name, port in ports.items()}
    with running([path, "-c", str(folder / "conf"), "-p", f"{folder}/"], ports["plain"], folder):
        yield Nginx(**addresses, root=folder / "root", authority=str(certificates.authority))


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("name", ["plain", "moved"])
def test_reading(name: str, nginx: Nginx, cache: bool, tmp_path: Path) -> None:
    for _ in range(2):
        assert numbers(getattr(nginx, name), QUICK, tmp_path if cache else None) == RIGHT


def test_tls(nginx: Nginx) -> None:
    with pytest.raises(StorageError, match="authority unknown here"):
        numbers(nginx.tls, QUICK)
    trusted: dict[str, Any] = QUICK | {"root_certificate": nginx.authority}
    assert numbers(nginx.tls, trusted) == RIGHT


def test_a_limit_of_requests(nginx: Nginx) -> None:
    assert numbers(nginx.stingy, {"retry_seconds": 20.0}) == RIGHT


def test_files_that_are_written_again(nginx: Nginx, stored: Stored) -> None:
    ds = ShardDataset(nginx.plain, storage=QUICK, cache=None)
    ds[0]
    for name, data in stored.objects.items():
        (nginx.root / "data" / name).write_bytes(data)
    assert ds.take(np.arange(COUNT))["number"].tolist() == RIGHT
