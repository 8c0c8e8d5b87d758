"""Read mails: headers, the text of each part in its declared encoding, forwarded mails, names of attachments."""

from __future__ import annotations

import binascii
import email
import re
from collections.abc import Iterator
from email.errors import CloseBoundaryNotFoundDefect, HeaderParseError, StartBoundaryNotFoundDefect
from email.header import decode_header
from email.message import Message

from ragops.documents.encodings import decode_declared, decode_markup, decode_text
from ragops.documents.errors import Unreadable
from ragops.documents.markup import text_of_html
from ragops.documents.readers.attachments import Attachments
from ragops.documents.readers.result import Read

MEDIA_TYPE = "message/rfc822"
_SHOWN = ("From", "To", "Cc", "Date", "Subject")
# A mail in a mail in a mail …; Python's parser and this reader go down by recursion.
_DEEPEST = 50
_WORD = re.compile(r"\w+")
# A boundary is announced, and the mail ends before it.
_ENDS_EARLY = (CloseBoundaryNotFoundDefect, StartBoundaryNotFoundDefect)
# Of two forms of one text, the plain one is often a note that there is another one.
_MUCH_MORE = 1.3
# Texts that are read as documents, and parts that hold the mail itself in a form that is not read.
_RICH = frozenset({"text/rtf", "text/richtext", "application/rtf"})
_ENCRYPTED = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted"})
_PACKED = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_BEGIN = re.compile(rb"^From [^\n]*\n(?=[!-9;-~]+:)", re.MULTILINE)


def read_mail(data: bytes, attachments: Attachments) -> Read:
    """Return the text of one mail and of the documents that are attached to it."""
    return _read(email.message_from_bytes(data.lstrip(b"\r\n")), attachments)


def read_mbox(data: bytes, attachments: Attachments) -> Read:
    """Return the mails of a mailbox in their order."""
    begins = [
        found
        for found in _BEGIN.finditer(data)
        if found.start() == 0 or data[found.start() - 2 : found.start() - 1] in b"\n\r"
    ]
    if not begins:
        return read_mail(data, attachments)
    ends = [found.start() for found in begins[1:]] + [len(data)]
    mails = [
        _read(email.message_from_bytes(data[one.end() : end]), attachments.fork())
        for one, end in zip(begins, ends, strict=True)
    ]
    text = "\n\n".join(one.text for one in mails)
    missing = tuple(f"{name} of mail {number}" for number, one in enumerate(mails, 1) for name in one.missing)
    found, expected = sum(one.found for one in mails), sum(one.expected for one in mails)
    return Read(text, "application/mbox", found, expected, "parts", missing)


def _read(mail: Message, attachments: Attachments) -> Read:
    lines = [f"{name}: {_header(mail[name])}" for name in _SHOWN if mail[name]]
    parts = list(_parts(mail, 0, attachments))
    if not lines and not parts:
        raise Unreadable("damaged: no headers and no text of a mail")
    text = "\n\n".join(["\n".join(lines), *(part.strip("\r\n") for part in parts if part.strip())])
    if any(isinstance(defect, _ENDS_EARLY) for part in mail.walk() for defect in part.defects):
        attachments.missing.append("the end of the mail")
        parts.append("")
    missing = tuple(attachments.missing)
    expected = max(len(parts), len(missing))
    return Read(text, MEDIA_TYPE, expected - len(missing), expected, "parts", missing)


def _parts(part: Message, depth: int, attachments: Attachments) -> Iterator[str]:
    """Yield the text of a part and of those in it, in their order."""
    if depth > _DEEPEST:
        raise Unreadable(f"mails within mails, more than {_DEEPEST} levels deep")
    kind = part.get_content_type()
    below = _below(part)
    if kind == "message/rfc822" and below:
        for inner in below:
            yield "\n".join(f"{name}: {_header(inner[name])}" for name in _SHOWN if inner[name])
            yield from _parts(inner, depth + 1, attachments)
    elif kind == "message/delivery-status" and below:
        yield "\n\n".join("\n".join(f"{name}: {_header(value)}" for name, value in one.items()) for one in below)
    elif kind == "multipart/alternative" and below:
        yield from _best(below, depth, attachments)
    elif below:
        for inner in below:
            yield from _parts(inner, depth + 1, attachments)
    elif kind in _RICH or not kind.startswith(("text/", "multipart/", "message/delivery")):
        yield _attached(part, kind, attachments)
    else:  # text, or a multipart whose parts are not marked
        name = part.get_filename()
        text = _text(part)
        yield (
            f"Attachment: {_header(name)}\n{text}"
            if name and part.get_content_disposition() == "attachment"
            else text
        )


def _attached(part: Message, kind: str, attachments: Attachments) -> str:
    """Return the line that names an attachment, with its text if it is a document."""
    name = _header(part.get_filename() or "")
    signed = str(part.get_param("smime-type", "")).lower() in ("signed-data", "certs-only")
    if (kind in _ENCRYPTED and not signed) or kind in _PACKED or name.lower() == "winmail.dat":
        what = "packed by Outlook" if kind not in _ENCRYPTED else "encrypted"
        attachments.missing.append(f"{name or 'the text'} ({what})")
    if kind.startswith("image/") and not name:
        return ""  # drawn within an HTML text
    return attachments.text(name, lambda: _bytes(part), kind)


def _below(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [one for one in payload if isinstance(one, Message)] if isinstance(payload, list) else []


def _best(alternatives: list[Message], depth: int, attachments: Attachments) -> Iterator[str]:
    """Yield the alternative that says most: the first, unless a later one has many more words."""
    lost = [attachments.fork() for _ in alternatives]
    texts = [list(_parts(one, depth + 1, lost[at])) for at, one in enumerate(alternatives)]
    counts = [len(_WORD.findall("\n".join(text))) for text in texts]
    best = 0
    for index, count in enumerate(counts):
        if count > counts[best] * _MUCH_MORE:
            best = index
    attachments.missing += lost[best].missing
    yield from texts[best]


def _text(part: Message) -> str:
    """Return a text part, decoded as it declares. Raises Unreadable for bytes that are not of that encoding."""
    data = _bytes(part)
    declared = part.get_content_charset()
    is_html = part.get_content_subtype() in ("html", "xhtml", "xml")
    if declared is None or declared == "us-ascii":
        # The default says us-ascii, which programs that write UTF-8 forget to change.
        text = decode_markup(data, is_xml=False) if is_html else decode_text(data)
    else:
        text = decode_declared(data, declared)
    return text_of_html(text) if is_html else text


def _bytes(part: Message) -> bytes:
    """Return the bytes of a part behind its transfer encoding. Raises Unreadable if they are damaged."""
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding != "base64":
        decoded = part.get_payload(decode=True)  # of 8-bit and quoted-printable parts, exactly their bytes
        return decoded if isinstance(decoded, bytes) else b""
    payload = part.get_payload()
    try:
        # Python's own way keeps damaged base64 as it is written.
        return binascii.a2b_base64(payload.encode("ascii", "replace") if isinstance(payload, str) else b"")
    except ValueError as error:
        raise Unreadable(f"damaged: a part of the mail is no base64 ({error})") from None


def _header(value: object) -> str:
    """Return a header's words (RFC 2047) in their encodings; one that cannot be decoded stays as it is written."""
    text = str(value)
    shown: list[str] = []
    try:
        pieces = decode_header(text)
    except (ValueError, HeaderParseError):
        return _unfolded(text)
    for piece, charset in pieces:
        if isinstance(piece, str):
            shown.append(piece)
            continue
        try:
            shown.append(decode_declared(piece, charset) if charset else decode_text(piece))
        except Unreadable:
            return _unfolded(text.encode("ascii", "surrogateescape").decode("utf-8", "replace"))
    return _unfolded("".join(shown))


def _unfolded(text: str) -> str:
    return " ".join(text.split())
