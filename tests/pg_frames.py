"""Cut the two byte streams of a PostgreSQL connection into messages.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104
_HEADER = 5


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: its tag, empty for those before the session starts, and all of its bytes."""

    from_server: bool
    tag: bytes
    data: bytes

    @property
    def body(self) -> bytes:
        return self.data[_HEADER if self.tag else 4 :]

    @property
    def text(self) -> str:
        """The first string of the message: the SQL of a Query, the tag of a CommandComplete."""
        return self.body.split(b"\0", 1)[0].decode("utf-8", "replace")


@dataclass
class Conversation:
    """What is known of one connection; both directions tell it their bytes."""

    copied: int = 0
    """Bytes of COPY that the client has sent in the transaction that is open."""
    _negotiations: int = 0
    _has_started: bool = False
    _client: bytearray = field(default_factory=bytearray)
    _server: bytearray = field(default_factory=bytearray)

    def client_says(self, data: bytes) -> Iterator[Frame]:
        """Yield the messages that `data` completes."""
        self._client += data
        while frame := self._next_of_client():
            if frame.tag == b"d":
                self.copied += len(frame.body)
            elif frame.tag == b"Q" and frame.text.startswith("BEGIN"):
                self.copied = 0
            yield frame

    def server_says(self, data: bytes) -> Iterator[Frame]:
        """Yield the messages that `data` completes."""
        self._server += data
        while True:
            if self._negotiations and self._server:
                # One byte: whether the server encrypts. The tests' servers do not.
                self._negotiations -= 1
                yield Frame(True, b"", self._taken(self._server, 1))
            elif (size := _tagged_size(self._server)) is not None:
                yield Frame(True, bytes(self._server[:1]), self._taken(self._server, size))
            else:
                return

    def _next_of_client(self) -> Frame | None:
        if self._has_started:
            size = _tagged_size(self._client)
            return Frame(False, bytes(self._client[:1]), self._taken(self._client, size)) if size else None
        if len(self._client) < 8:
            return None
        length, code = struct.unpack("!II", self._client[:8])
        if len(self._client) < length:
            return None
        if code in (_SSL_REQUEST, _GSS_REQUEST):
            self._negotiations += 1
        else:
            self._has_started = True
        return Frame(False, b"", self._taken(self._client, length))

    @staticmethod
    def _taken(buffer: bytearray, size: int) -> bytes:
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken


def _tagged_size(buffer: bytearray) -> int | None:
    """The length of the message that the buffer begins with; None while it is not complete."""
    if len(buffer) < _HEADER:
        return None
    size = 1 + int.from_bytes(buffer[1:_HEADER], "big")
    return size if len(buffer) >= size else None
