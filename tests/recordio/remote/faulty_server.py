"""An HTTP server on this machine whose answers can be made wrong: the next so many for an object, or for a byte of it.

It speaks as much of HTTP as reading from an object store takes: GET and HEAD, ranges, ETags, If-Match. Paths are
/BUCKET/KEY, so that it serves S3 clients as well.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

FOREVER = 1 << 60
_LINGER = struct.pack("ii", 1, 0)


def xml(code: str, message: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


# Answers with a status of their own: status, body, headers.
STATUSES: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "500": (500, b"", {}),
    "502": (502, b"<html>Bad Gateway</html>", {}),
    "503": (503, xml("SlowDown", "Please reduce your request rate."), {}),
    "503-retry-after": (503, b"", {"Retry-After": "1"}),
    "429": (429, b"", {"Retry-After": "1"}),
    "408": (408, b"", {}),
    "denied": (403, xml("AccessDenied", "Access Denied"), {}),
    "expired": (403, xml("ExpiredToken", "The provided token has expired."), {}),
    "expired-400": (400, xml("ExpiredToken", "The provided token has expired."), {}),
    "skewed": (403, xml("RequestTimeTooSkewed", "The difference between the times is too large."), {}),
    "signature": (403, xml("SignatureDoesNotMatch", "The signature does not match."), {}),
    "401": (401, b"", {}),
    "missing": (404, xml("NoSuchKey", "The specified key does not exist."), {}),
    "no-bucket": (404, xml("NoSuchBucket", "The specified bucket does not exist"), {}),
    "region": (301, xml("PermanentRedirect", "Use the specified endpoint."), {"x-amz-bucket-region": "eu-west-1"}),
    "416": (416, xml("InvalidRange"), {}),
}
# Faults of the connection and of the body; the others change headers.
CONNECTIONS = ("reset", "close", "hang")
BODIES = ("cut", "cut-reset", "stall", "short", "chunked-short", "no-length-short", "corrupt", "drip")
HEADERS = ("ignore-range", "wrong-range", "no-range", "no-etag", "weak-etag", "other-etag")
MODES = (*STATUSES, *CONNECTIONS, *BODIES, *HEADERS)


@dataclass
class Fault:
    """What is wrong with the next `times` answers for an object, if a byte is given for those that contain it."""

    mode: str
    name: str
    times: int = 1
    byte: int | None = None


class Request(NamedTuple):
    method: str
    name: str
    range: tuple[int, int] | None
    headers: Mapping[str, str]  # names in lower case
    query: str


class FaultyServer:
    """Serves `objects`, bytes by key; over TLS if there is a context."""

    def __init__(self, objects: Mapping[str, bytes], port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.objects = dict(objects)
        self.etags: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[Request] = []
        self.judge: Callable[[Request], str | None] = lambda request: None  # an own rule: the mode of an answer
        self.closing = threading.Event()
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"origin": self}))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @property
    def dataset(self) -> str:
        """The URL of the dataset, which lies in the bucket at "data"."""
        return f"{self.address}/bucket/data"

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def fail(self, mode: str, name: str, times: int = 1, byte: int | None = None) -> None:
        assert mode in MODES, mode
        with self._lock:
            self._faults.append(Fault(mode, name, times, byte))

    def clear(self) -> None:
        """Forgets all faults and requests."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()

    def mode_of(self, request: Request) -> str | None:
        """Takes note of a request; what is wrong with its answer."""
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                low, high = request.range or (0, FOREVER)
                if fault.times and fault.name == request.name and (fault.byte is None or low <= fault.byte < high):
                    fault.times -= 1
                    return fault.mode
        return self.judge(request)

    def asked(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.name == name]

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, *_: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    origin: FaultyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        name, asked = unquote(parts.path).lstrip("/").partition("/")[2], self._range()
        headers = {key.lower(): value for key, value in self.headers.items()}
        mode = self.origin.mode_of(Request(self.command, name, asked, headers, parts.query)) or ""
        data = self.origin.objects.get(name)
        if self.origin.closing.is_set():
            self._break_off("close")
        elif mode in STATUSES:
            self._status(*STATUSES[mode])
        elif mode in CONNECTIONS:
            self._break_off(mode)
        elif name in self.origin.redirects:
            self._status(302, b"", {"Location": self.origin.redirects[name]})
        elif data is None:
            self._status(*STATUSES["missing"])
        else:
            self._send(mode, name, data, asked)

    def _range(self) -> tuple[int, int] | None:
        unit, _, text = (self.headers.get("Range") or "").partition("=")
        first, _, last = text.partition("-")
        return (int(first), int(last) + 1 if last else FOREVER) if unit == "bytes" and first else None

    def _status(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _break_off(self, mode: str) -> None:
        """Closes the connection: in order, by a reset, or after a long silence."""
        with suppress(OSError):
            self.wfile.flush()
            if mode == "hang":
                self.origin.closing.wait(60)
            if mode == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _send(self, mode: str, name: str, data: bytes, asked: tuple[int, int] | None) -> None:
        etag = '"another"' if mode == "other-etag" else self.origin.etags.get(name, '"first"')
        if self.headers.get("If-Match") not in (None, etag):
            return self._status(412, b"", {})
        if asked is not None and asked[0] >= len(data):
            return self._status(*STATUSES["416"])
        low, high = (0, len(data)) if asked is None else (asked[0], min(asked[1], len(data)))
        whole = asked is None or mode == "ignore-range"
        body = bytearray(data if whole else data[low:high])
        self.send_response(200 if whole else 206)
        self.send_header("Last-Modified", "Wed, 25 Nov 2026 10:00:00 GMT")
        if mode != "no-etag":
            self.send_header("ETag", f"W/{etag}" if mode == "weak-etag" else etag)
        if not whole and mode != "no-range":
            shift = mode == "wrong-range"
            self.send_header("Content-Range", f"bytes {low + shift}-{high - 1 + shift}/{len(data)}")
        return self._body(mode, body)

    def _body(self, mode: str, body: bytearray) -> None:
        nbytes, half = len(body), len(body) // 2
        if mode == "corrupt" and body:
            body[half] ^= 1
        if mode == "chunked-short":
            self.send_header("Transfer-Encoding", "chunked")
            body = bytearray(b"%x\r\n" % half) + body[:half] + b"\r\n0\r\n\r\n"
        elif mode == "no-length-short":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(half if mode == "short" else nbytes))
        self.end_headers()
        if self.command == "HEAD":
            return
        if mode in ("short", "cut", "cut-reset", "stall", "no-length-short"):
            body = body[:half]
        with suppress(OSError):
            if mode == "drip":
                self._drip(body)
            self.wfile.write(body)
            if mode in ("cut", "cut-reset", "stall", "no-length-short"):
                self._break_off({"cut-reset": "reset", "stall": "hang"}.get(mode, "close"))

    def _drip(self, body: bytearray) -> None:
        """A byte now and then, so that the connection never falls silent, until the client gives up."""
        for byte in body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.origin.closing.wait(0.05):
                break


@contextmanager
def faulty_server(
    objects: Mapping[str, bytes], port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[FaultyServer]:
    server = FaultyServer(objects, port, tls)
    try:
        yield server
    finally:
        server.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
