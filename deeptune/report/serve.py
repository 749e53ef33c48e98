"""A web server for one report, reachable only from this machine."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from deeptune.errors import CheckpointError

LOOPBACK = "127.0.0.1"
OWN_NAMES = frozenset({"127.0.0.1", "localhost"})


def report_server(file: Path, port: int) -> ThreadingHTTPServer:
    """Make a server for `file` on the loopback address; port 0 is any free one. `serve_forever` starts it.

    Raises CheckpointError if the port is not available.
    """
    try:
        server = ThreadingHTTPServer((LOOPBACK, port), partial(ReportHandler, file))
    except OSError as error:
        raise CheckpointError(
            f"cannot listen on port {port}: {error.strerror or error}", hint="Choose another --port, or none."
        ) from error
    server.daemon_threads = True
    return server


class ReportHandler(BaseHTTPRequestHandler):
    """Answers with one file, and with nothing else."""

    server_version = "DeepTune"
    sys_version = ""

    def __init__(self, file: Path, *arguments: object) -> None:
        self._file = file
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        # A page of another site whose name was made to lead here (DNS rebinding) gets nothing.
        host = self.headers.get("Host", "")
        if (host.rpartition(":")[0] or host) not in OWN_NAMES:
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        if self.path.partition("?")[0] not in ("/", f"/{self._file.name}"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            content = self._file.read_bytes()
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND, "the report is gone")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of requests."""
