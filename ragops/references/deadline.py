"""A deadline for a whole HTTP request: httpx limits each read, and a server that trickles never exceeds that."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any


class Deadline:
    """Cuts the connections of one client when a request takes too long, from its first byte to its last."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Note a connection; pass it to httpx as the request's extension `trace`."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._sockets = [one for one in self._sockets if one.fileno() != -1]
            self._sockets.append(info["return_value"].get_extra_info("socket"))

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[threading.Event]:
        """Cut the connections after so long; the event says whether that has happened."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            for one in list(self._sockets):
                # A read that waits in another thread returns at once; closing alone would leave it waiting.
                with contextlib.suppress(OSError):  # closed meanwhile, or given up for the TLS socket
                    one.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()
