"""Read what is stored in OLE compound files: DOC, PPT and MSG; what else is in one is left to kreuzberg."""

from __future__ import annotations

import io

import olefile

from ragops.documents.errors import Unreadable
from ragops.documents.readers.result import Read

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


def read_compound(data: bytes, suffix: str) -> Read | None:
    """Return the text of a compound file, None if its format is left to kreuzberg."""
    streams = Streams(data)
    if streams.has("EncryptedPackage"):
        raise Unreadable("encrypted: a password is needed")
    if streams.has("__properties_version1.0"):
        from ragops.documents.readers.outlook import read_message

        return read_message(streams)
    if streams.has("WordDocument"):
        from ragops.documents.readers.old_word import read_old_word

        return read_old_word(streams)
    if streams.has("PowerPoint Document"):
        from ragops.documents.readers.old_slides import read_old_slides

        return read_old_slides(streams)
    if streams.has("Workbook") or streams.has("Book"):
        from ragops.documents.readers.old_sheets import refuse_encrypted

        refuse_encrypted(streams)
        return None
    if suffix in (".hwp", ".xls", ".doc", ".ppt"):
        return None
    raise Unreadable(f"unsupported format: {suffix or 'no suffix'} (an OLE compound file of another program)")
