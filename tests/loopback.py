"""A tiny HTTP server on the loopback interface with the replies that a test sets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: a status, a body, headers. `cut` ends the connection after so many bytes of it."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    wait: threading.Event | None = None
    """Answer only after this."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Loopback:
    """Gives its answers in turn, the last one again and again; records the requests."""

    url: str
    answers: list[Reply] = field(default_factory=lambda: [Reply()])
    requests: list[ReceivedRequest] = field(default_factory=list)

    def take(self) -> Reply:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def reply(content: object, status: int = 200, **headers: str) -> Reply:
    """A JSON answer."""
    return Reply(status, json.dumps(content).encode(), headers)


@contextmanager
def loopback() -> Iterator[Loopback]:
    """The server, on a free port, until the block ends."""
    known: list[Loopback] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            known[0].requests.append(
                ReceivedRequest(self.command, self.path, dict(self.headers), self.rfile.read(length))
            )
            answer = known[0].take()
            if answer.wait is not None:
                answer.wait.wait(30)
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            self.close_connection = answer.cut is not None

        do_GET = do_POST = handle_any

        def log_message(self, *arguments: object) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is what some tests are about."""

    server = Quiet(("127.0.0.1", 0), Handler)
    known.append(Loopback(f"http://127.0.0.1:{server.server_address[1]}"))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield known[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
