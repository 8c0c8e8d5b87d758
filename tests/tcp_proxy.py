"""A TCP proxy in front of PostgreSQL that breaks connections where a test says so.

What it can do to a connection that is open: close it (also in the middle of a message), swallow it (everything is
acknowledged and nothing answered), or vanish (nothing is acknowledged any more, as if a cable was cut).
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from pg_frames import Conversation, Frame
from psycopg.conninfo import conninfo_to_dict, make_conninfo

# Linux only: a socket filter that lets no packet pass, so that not even the kernel acknowledges one.
_SO_ATTACH_FILTER = 26
CAN_VANISH = sys.platform == "linux"


class How(Enum):
    """What happens to a connection."""

    CLOSE = "close"
    SWALLOW = "swallow"
    VANISH = "vanish"


@dataclass(frozen=True, slots=True)
class Break:
    """Break the connection at a message, of which the first `after` bytes are still forwarded."""

    how: How = How.CLOSE
    after: int = 0


Rule = Callable[["Link", Frame], Break | None]
"""Look at each message before it is forwarded; None forwards it."""


@dataclass(eq=False)
class Link:
    """One connection through the proxy."""

    number: int
    client: socket.socket
    server: socket.socket
    conversation: Conversation = field(default_factory=Conversation)
    is_silent: threading.Event = field(default_factory=threading.Event)

    @property
    def copied(self) -> int:
        """Bytes of COPY that the client has sent in the transaction that is open."""
        return self.conversation.copied

    def do(self, how: How) -> None:
        if how is How.CLOSE:
            self.close()
            return
        if how is How.VANISH:
            _drop_everything(self.client)
        self.is_silent.set()

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class TcpProxy:
    """Forward connections on a port of this machine to a server; use `running_proxy`."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.rule: Rule | None = None
        self.latency_s = 0.0
        self.made = 0
        """Connections so far."""
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._accept_in_a_thread(self._listener)

    def dsn(self, **more: str | int) -> str:
        """The same database through the proxy."""
        return make_conninfo(self._dsn, host="127.0.0.1", port=self.port, **more)

    def refuse(self) -> None:
        """Refuse new connections; open ones go on."""
        # shutdown() wakes the thread that accepts: without it the port would stay open.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def accept(self) -> None:
        """Take new connections again."""
        self._listener = _listen(self.port)
        self._accept_in_a_thread(self._listener)

    def do(self, how: How) -> int:
        """Break every open connection; returns how many."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.do(how)
        return len(links)

    def close(self) -> None:
        self.refuse()
        self.do(How.CLOSE)

    def _accept_in_a_thread(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), name="proxy", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = _connect(self._dsn)
            except OSError:
                # The server is down, and so is this connection.
                client.close()
                continue
            for end in (client, server):
                if end.family != getattr(socket, "AF_UNIX", None):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.made += 1
                link = Link(self.made, client, server)
                self._links.add(link)
            for from_server in (False, True):
                threading.Thread(target=self._pump, args=(link, from_server), name="proxy", daemon=True).start()

    def _pump(self, link: Link, from_server: bool) -> None:
        source, sink = (link.server, link.client) if from_server else (link.client, link.server)
        cut = link.conversation.server_says if from_server else link.conversation.client_says
        try:
            while data := source.recv(65536):
                if self.latency_s:
                    time.sleep(self.latency_s)
                for frame in cut(data):
                    if link.is_silent.is_set():
                        break
                    broken = self.rule(link, frame) if self.rule is not None else None
                    if broken is None:
                        sink.sendall(frame.data)
                        continue
                    sink.sendall(frame.data[: broken.after])
                    link.do(broken.how)
        except OSError:
            pass
        finally:
            # A silent connection stays open: who is there hears nothing, not even its end.
            if not link.is_silent.is_set():
                link.close()
                with self._lock:
                    self._links.discard(link)


@contextmanager
def running_proxy(dsn: str) -> Iterator[TcpProxy]:
    """A proxy in front of the server of `dsn`."""
    proxy = TcpProxy(dsn)
    try:
        yield proxy
    finally:
        proxy.close()


def is_store_s_commit(link: Link, frame: Frame) -> bool:
    """Whether the client asks to commit a transaction that has copied rows."""
    return not frame.from_server and frame.tag == b"Q" and frame.text == "COMMIT" and link.copied > 0


def is_answer_to_a_store_s_commit(link: Link, frame: Frame) -> bool:
    """Whether the server says that a transaction that has copied rows is committed."""
    return frame.from_server and frame.tag == b"C" and frame.text == "COMMIT" and link.copied > 0


def runs(frame: Frame, pattern: str) -> bool:
    """Whether the client runs a statement that the pattern finds, in a message of either protocol."""
    if frame.from_server or frame.tag not in (b"Q", b"P"):
        return False
    # A Parse has the name of a prepared statement, which is empty here, in front of the SQL.
    sql = frame.body.lstrip(b"\0").split(b"\0", 1)[0].decode("utf-8", "replace")
    return re.search(pattern, sql) is not None


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    return listener


def _connect(dsn: str) -> socket.socket:
    """Connect to the server as libpq would."""
    parts = conninfo_to_dict(dsn)
    host, port = str(parts.get("host") or "localhost"), int(parts.get("port") or 5432)
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{host}/.s.PGSQL.{port}")
    return server


def _drop_everything(end: socket.socket) -> None:
    """Let the kernel drop every packet that arrives for a socket (man 7 socket, SO_ATTACH_FILTER)."""
    # One instruction of BPF, "return 0": accept no byte of the packet.
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
