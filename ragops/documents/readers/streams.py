"""Open OLE compound files, in which Word, PowerPoint and Outlook store their documents."""

from __future__ import annotations

import io

import olefile

from ragops.documents.errors import Unreadable

# A stream is at most as long as the file. This bounds what many small references could add up to.
_MOST = 256 * 1024 * 1024


class Streams:
    """The streams of a compound file by their path. Raises Unreadable for what is damaged."""

    def __init__(self, data: bytes) -> None:
        self._room = _MOST
        try:
            self._file = olefile.OleFileIO(io.BytesIO(data))
            self.paths: list[str] = sorted("/".join(path) for path in self._file.listdir())
        except Exception as error:  # noqa: BLE001  # the library raises what the bytes lead it to
            raise Unreadable(f"damaged: no whole compound file ({error})") from None
        self._known = {path.lower(): path for path in self.paths}

    def has(self, path: str) -> bool:
        """Return whether a stream exists; names compare without case."""
        return path.lower() in self._known

    def read(self, path: str) -> bytes:
        """Return a stream's bytes; b"" if it does not exist."""
        if not self.has(path):
            return b""
        try:
            data = bytes(self._file.openstream(self._known[path.lower()].split("/")).read())
        except Exception as error:  # noqa: BLE001
            raise Unreadable(f"damaged: the stream {path} cannot be read ({error})") from None
        self._room -= len(data)
        if self._room < 0:
            raise Unreadable(f"its streams are larger than {_MOST} bytes")
        return data
