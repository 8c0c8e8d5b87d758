"""Faults of the network: traps that close at one message, and spells in which nothing is carried or accepted."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from pg_frames import Frame
from tcp_proxy import Break, Link, TcpProxy, is_answer_to_a_store_s_commit


class Trap(Enum):
    """What a connection is cut at."""

    COPY = "copy"
    """In the middle of rows that it sends."""
    STORE = "store"
    """At the answer to the COMMIT of a transaction that has copied rows: it is stored, and nobody knows."""
    COMMIT = "commit"
    """At the answer to any COMMIT."""
    REPLY = "reply"
    """At the end of any answer."""

    def closes_at(self, link: Link, frame: Frame) -> bool:
        if self is Trap.COPY:
            return not frame.from_server and frame.tag == b"d"
        if self is Trap.STORE:
            return is_answer_to_a_store_s_commit(link, frame)
        if self is Trap.COMMIT:
            return frame.from_server and frame.tag == b"C" and frame.text == "COMMIT"
        return frame.from_server and frame.tag == b"C"


@dataclass(eq=False)
class Armed:
    trap: Trap
    passes: int
    """As many chances to let pass before."""
    closed: threading.Event = field(default_factory=threading.Event)


class Network:
    """What lies between ragops and the server (or its pooler)."""

    def __init__(self, dsn: str) -> None:
        self.proxy = TcpProxy(dsn)
        self.proxy.rule = self._rule
        self._armed: list[Armed] = []
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        # Two faults that refuse at once would take turns in opening the port.
        self._refusing = threading.Lock()

    def _rule(self, link: Link, frame: Frame) -> Break | None:
        self._flows.wait()
        with self._lock:
            for armed in self._armed:
                if armed.trap.closes_at(link, frame):
                    if armed.passes > 0:
                        armed.passes -= 1
                        continue
                    self._armed.remove(armed)
                    armed.closed.set()
                    half = len(frame.data) // 2 if armed.trap is Trap.COPY else 0
                    return Break(after=half)
        return None

    def spring(self, trap: Trap, *, passes: int, within_s: float) -> bool:
        """Set a trap and wait until a connection has run into it; False when none did."""
        armed = Armed(trap, passes)
        with self._lock:
            self._armed.append(armed)
        armed.closed.wait(within_s)
        with self._lock:
            if armed in self._armed:
                self._armed.remove(armed)
        return armed.closed.is_set()

    def cut_one(self, rng: random.Random) -> bool:
        """Cut some connection; False without any."""
        links = self.links()
        if links:
            rng.choice(links).close()
        return bool(links)

    def links(self) -> list[Link]:
        """The open connections in the order in which they were made."""
        return sorted(self.proxy._links.copy(), key=lambda link: link.number)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse every new connection; the open ones go on."""
        with self._refusing:
            self.proxy.refuse()
            try:
                yield
            finally:
                self.proxy.accept()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Carry nothing, neither way, and lose nothing."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def close(self) -> None:
        self._flows.set()
        self.proxy.close()
