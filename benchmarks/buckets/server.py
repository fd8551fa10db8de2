"""nginx as an object store on this machine: so many milliseconds to the first byte, so many bytes a second.

`apt-get install nginx libnginx-mod-http-lua`, and openssl for the certificate.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = Path("/usr/lib/nginx/modules")
FIRST_BYTE = 0.040  # seconds
CONNECTION_RATE = 90e6  # bytes a second
LATE = 1.0  # seconds that one request in a hundred is late by
MOST_REQUESTS = 200  # a second, of the server that throttles

CONFIG = """
load_module {modules}/ndk_http_module.so; load_module {modules}/ngx_http_lua_module.so;
user root; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_timeout 300; keepalive_requests 1000000;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  lua_shared_dict counts 1m; init_worker_by_lua_block {{ math.randomseed(7) }}
  limit_rate 90m; root {folder}/root;
  server {{ listen 127.0.0.1:{plain}; access_by_lua_block {{ ngx.sleep(0.040) }} }}
  server {{ listen 127.0.0.1:{tls} ssl; ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/key.pem;
    ssl_protocols TLSv1.3; access_by_lua_block {{ ngx.sleep(0.040) }} }}
  server {{ listen 127.0.0.1:{late}; access_by_lua_block {{
    local a, b = math.random(), math.random()
    local wait = 0.030 * math.exp(0.4 * math.sqrt(-2 * math.log(a + 1e-12)) * math.cos(2 * math.pi * b))
    if math.random() < 0.01 then wait = wait + 1.0 end
    ngx.sleep(wait) }} }}
  server {{ listen 127.0.0.1:{throttled}; access_by_lua_block {{
    if ngx.shared.counts:incr(math.floor(ngx.now()), 1, 0, 5) > 200 then return ngx.exit(503) end
    ngx.sleep(0.040) }} }}
}}
"""


@dataclass(frozen=True)
class Server:
    """Addresses of one set of files: `b/NAME/...` below each.

    Attributes:
        plain, tls: 40 ms to the first byte and 90 MB/s a connection.
        late: a lognormal wait around 30 ms, and one request in a hundred a second later.
        throttled: 503 to more than 200 requests a second.
        root: the folder of the files.
        authority: the PEM file that TLS needs to be trusted.
    """

    plain: str
    tls: str
    late: str
    throttled: str
    root: Path
    authority: Path

    def variables(self, address: str) -> dict[str, str]:
        """The environment of peers that reach `address` as S3."""
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
        checks = dict.fromkeys(
            ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"), "when_required"
        )
        trust = dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"), str(self.authority))
        regions = dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1")
        quiet = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "LIGHTNING_DISABLE_VERSION_CHECK": "1"}
        return {**keys, **checks, **trust, **regions, **quiet, "S3_ENDPOINT_URL": address, "NO_PROXY": "127.0.0.1"}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def missing() -> str:
    """What has to be installed, or nothing."""
    if not shutil.which("nginx") or not (MODULES / "ngx_http_lua_module.so").exists():
        return "apt-get install nginx libnginx-mod-http-lua"
    return "" if shutil.which("openssl") else "apt-get install openssl"


def certify(folder: Path) -> Path:
    """Makes a certificate of 127.0.0.1 in `folder`, by an authority of its own."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    authority = ["-subj", "/CN=authority", "-keyout", "authority.key", "-out", "authority.pem"]
    here = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]
    signer = ["-CA", "authority.pem", "-CAkey", "authority.key"]
    for rest in ([*authority], [*here, *signer, "-keyout", "key.pem", "-out", "chain.pem"]):
        subprocess.run(["openssl", "req", "-x509", *key, *rest], cwd=folder, check=True, capture_output=True)
    return folder / "authority.pem"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """The server of the files in folder/root."""
    (folder / "root" / "b").mkdir(parents=True, exist_ok=True)
    authority = certify(folder)
    ports = dict(zip(("plain", "tls", "late", "throttled"), free_ports(4), strict=True))
    (folder / "conf").write_text(CONFIG.format(modules=MODULES, folder=folder, **ports))
    process = subprocess.Popen(["nginx", "-c", str(folder / "conf"), "-p", f"{folder}/"])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports["plain"]), 1):
                break
            time.sleep(0.05)
        else:
            raise RuntimeError("nginx does not answer")
        addresses = {name: f"http{'s' * (name == 'tls')}://127.0.0.1:{port}" for name, port in ports.items()}
        yield Server(**addresses, root=folder / "root", authority=authority)
    finally:
        process.terminate()
        process.wait()
