"""Read what is stored in OLE compound files: DOC, PPT and MSG; what else is in one is left to kreuzberg."""

from __future__ import annotations

from ragops.documents.errors import Unreadable
from ragops.documents.readers.attachments import Attachments
from ragops.documents.readers.result import Read
from ragops.documents.readers.streams import Streams


def read_compound(data: bytes, suffix: str, attachments: Attachments) -> Read | None:
    """Return the text of a compound file, None if its format is left to kreuzberg."""
    streams = Streams(data)
    if streams.has("EncryptedPackage"):
        raise Unreadable("encrypted: a password is needed")
    if streams.has("__properties_version1.0"):
        from ragops.documents.readers.outlook import read_message

        return read_message(streams, attachments)
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
    if suffix == ".hwp":
        return None
    raise Unreadable(f"unsupported format: {suffix or 'no suffix'} (an OLE compound file of another program)")
