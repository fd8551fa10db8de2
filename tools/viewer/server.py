"""`recordio view --serve`: every sample, page by page, on 127.0.0.1. Reads datasets, and serves no files.

Contract: a request names a dataset, a page, a sample and a field by number; any other path is not found. Requests whose
Host is not this server are refused: a page of a stranger could otherwise read the data under a name of its own (DNS
rebinding).
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from recordio.display.markup import Markup, joined, tag
from recordio.display.pictures import full_size
from recordio.display.values import Damaged
from recordio.reader.preview import stored_values
from recordio.tools.output import write
from recordio.tools.viewer.page import Faults, Shown, grouped, heading, whole_page

HOST = "127.0.0.1"
PAGE_SAMPLES = 60
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_PAGE = re.compile(r"/([0-9]{1,9})/")
_PICTURE = re.compile(r"/([0-9]{1,9})/picture/([0-9]{1,18})/([0-9]{1,9})")


class Viewer:
    """The pages of some datasets. Used by several threads."""

    def __init__(self, all_shown: Sequence[Shown], title: str) -> None:
        self._all, self._title = all_shown, title
        self._lock = threading.Lock()  # the summaries are made once

    def page(self, number: int, start: int) -> str | None:
        """The samples of dataset `number` from `start` on; None if there is no such dataset."""
        if number >= len(self._all):
            return None
        shown = self._all[number]
        n = len(shown.dataset)
        start = min(start, max(n - 1, 0)) // PAGE_SAMPLES * PAGE_SAMPLES
        indices = np.arange(start, min(start + PAGE_SAMPLES, n))

        def full(sample: int, name: str, _: Any) -> str:
            return f"/{number}/picture/{sample}/{shown.names.index(name)}"

        faults, way = Faults(), _way(number, start, n)
        samples = grouped(shown, indices, faults, full)
        parts = [heading(shown), self._splits(number), faults.box]
        if start == 0:
            with self._lock:
                parts.append(shown.summaries)
        which = f"{start:,} to {start + len(indices) - 1:,} of {n:,}" if n else "none"
        parts += [tag("h2", "Samples ", tag("small", which)), way, samples, way]
        return whole_page(self._title, *parts, images="'self' data:")

    def _splits(self, number: int) -> Markup:
        if len(self._all) == 1:
            return Markup()
        links = [
            tag("a", shown.split.name or "", href=f"/{k}/", aria_current="page" if k == number else None)
            for k, shown in enumerate(self._all)
        ]
        return tag("nav", *links)

    def picture(self, number: int, sample: int, column: int) -> tuple[bytes, str] | None:
        """The file and media type of a picture at full size; None if there is none there."""
        if number >= len(self._all):
            return None
        dataset, names = self._all[number].dataset, self._all[number].names
        if sample >= len(dataset) or column >= len(names):
            return None
        (value,) = stored_values(dataset, names[column], np.array([sample]))
        return None if isinstance(value, Damaged) else full_size(value)


def _way(number: int, start: int, n: int) -> Markup:
    """Links to the pages around, and a form to go to any sample."""
    last = max(n - 1, 0) // PAGE_SAMPLES * PAGE_SAMPLES
    places = {"first": 0, "previous": start - PAGE_SAMPLES, "next": start + PAGE_SAMPLES, "last": last}
    links = [
        tag("a", name, href=f"/{number}/?from={at}") for name, at in places.items() if 0 <= at <= last and at != start
    ]
    box = tag("input", type="number", name="from", min="0", max=str(max(n - 1, 0)), placeholder="sample", required="")
    return tag("nav", joined(links), tag("form", box, tag("button", "go"), method="get", action=f"/{number}/"))


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; http.server refuses all other methods."""

    server: _Server
    server_version, sys_version = "recordio", ""
    timeout = 30  # for a client that says nothing

    def do_GET(self) -> None:
        allowed = {f"{host}:{self.server.server_port}" for host in (HOST, "localhost")}
        if self.headers.get("Host", "").lower() not in allowed:
            self._answer(b"this server answers to its own address alone\n", "text/plain", HTTPStatus.FORBIDDEN)
            return
        path, _, query = self.path.partition("?")
        if path == "/":
            self._send("/0/")
        elif found := _PAGE.fullmatch(path):
            page = self.server.viewer.page(int(found[1]), _start(query))
            self._answer(None if page is None else page.encode("utf-8"), "text/html; charset=utf-8")
        elif found := _PICTURE.fullmatch(path):
            data, kind = self.server.viewer.picture(*map(int, found.groups())) or (None, "")
            self._answer(data, kind)
        else:
            self._answer(None, "")

    do_HEAD = do_GET

    def _send(self, place: str) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, data: bytes | None, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        if data is None:
            data, kind, status = b"there is no such page\n", "text/plain", HTTPStatus.NOT_FOUND
        self.send_response(status)
        for name, value in (_HEADERS | {"Content-Type": kind, "Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Says nothing: the terminal is for the address, and for errors."""


def _start(query: str) -> int:
    """The sample to begin with, 0 if the query says none."""
    (text,) = parse_qs(query).get("from", ["0"])[:1]
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, viewer: Viewer) -> None:
        super().__init__((HOST, port), _Handler)
        self.viewer = viewer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no error."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def serve(all_shown: Sequence[Shown], title: str, port: int) -> None:
    """Serves until Ctrl-C. Port 0 is any free one. Raises OSError if the port is taken."""
    with _Server(port, Viewer(all_shown, title)) as server:
        write(sys.stdout, f"http://{HOST}:{server.server_port}/  (Ctrl-C stops)\n", flush=True)
        server.serve_forever()
