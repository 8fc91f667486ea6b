"""What the sidecar serves over HTTP: metrics, the status page, its data, and whether all is well.

    /             the status page; it fetches /api/status and needs nothing else
    /api/status   the same figures as JSON
    /metrics      Prometheus exposition
    /healthz      200, or 503 and the reasons

Read-only, on loopback by default. What a page may load is this server alone; while bound to loopback only requests that
name a loopback host are answered, so that no foreign page can read it through a name of its own.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from socketserver import TCPServer
from typing import Any, Final
from urllib.parse import urlsplit

from drift_sidecar.errors import CannotFollow

log = logging.getLogger("drift_sidecar")

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/figures.js": ("figures.js", "text/javascript; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_REQUEST_SECONDS: Final = 10


Answer = tuple[int, str, bytes]
"""Status, content type, body."""
Source = Callable[[], Answer]


class PageServer:
    """Serves until closed, from threads of its own. `sources` answer by path.

    CannotFollow where the address cannot be had.
    """

    def __init__(self, host: str, port: int, sources: Mapping[str, Source]) -> None:
        files = {path: _file(name, kind) for path, (name, kind) in _FILES.items()}
        handler = type("_BoundHandler", (_Handler,), {"sources": {**files, **sources}, "loopback": host in LOOPBACK})
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise CannotFollow(f"port {port} on {host} cannot be used: {error.strerror}; give another --port") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="pages", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def as_json(document: Mapping[str, Any], status: int = 200) -> Answer:
    """A JSON answer."""
    return status, "application/json", json.dumps(document, allow_nan=False).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def server_bind(self) -> None:
        """Bind, without asking any name server for this machine's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell of a mistake of ours; a caller that went away is none of our business."""
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("a page could not be served")


class _Handler(BaseHTTPRequestHandler):
    sources: Mapping[str, Source] = {}
    loopback = True
    timeout = _REQUEST_SECONDS
    server_version = "fraudserve"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer from the path's source."""
        if self.loopback and not self._names_loopback():
            self._answer(421, "text/plain; charset=utf-8", b"ask for 127.0.0.1 or localhost\n")
            return
        source = self.sources.get(urlsplit(self.path).path)
        if source is None:
            known = ", ".join(sorted(self.sources))
            self._answer(404, "text/plain; charset=utf-8", f"nothing is here; there is: {known}\n".encode())
            return
        self._answer(*source())

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        """No line per request."""

    def _names_loopback(self) -> bool:
        try:
            return urlsplit(f"//{self.headers.get('Host', LOOPBACK[0])}").hostname in LOOPBACK
        except ValueError:
            return False

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _file(name: str, kind: str) -> Source:
    body = resources.files("drift_sidecar").joinpath("page").joinpath(name).read_bytes()
    return lambda: (200, kind, body)
