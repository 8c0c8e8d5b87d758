"""Find the encoding that HTML or XML declares, as browsers do: WHATWG HTML, "prescan a byte stream"."""

from __future__ import annotations

import re

# The standard looks at 1,024 bytes. Browsers look further where the head goes on, and pages rely on it.
_MOST_BYTES = 64 * 1024
# "<?" or "<!" with four or two bytes a character.
_WIDE_START = re.compile(
    rb"(?P<utf_32le><\0\0\0[?!a-zA-Z]\0\0\0)|(?P<utf_32be>\0\0\0<\0\0\0[?!a-zA-Z])"
    rb"|(?P<utf_16le><\0[?!a-zA-Z]\0)|(?P<utf_16be>\0<\0[?!a-zA-Z])"
)
_XML = re.compile(rb"""\s*<\?xml\s[^>]*?\bencoding\s*=\s*(?:"([^">]*)"|'([^'>]*)')""")
_NAME = re.compile(rb"<[a-zA-Z][^\t\n\f\r />]*")
_END = re.compile(rb"</[a-zA-Z]")
_ATTRIBUTE = re.compile(
    rb"""[\t\n\f\r /]*([^\t\n\f\r />=][^\t\n\f\r />=]*)"""
    rb"""(?:[\t\n\f\r ]*=[\t\n\f\r ]*(?:"([^"]*)"|'([^']*)'|([^\t\n\f\r >]*)))?"""
)
_CONTENT = re.compile(
    rb"""charset[\t\n\f\r ]*=[\t\n\f\r ]*(?:"([^"]*)"|'([^']*)'|([^\t\n\f\r ;"']+))""", re.IGNORECASE
)


# Python's PEP 263, which Ruby and Perl follow, and the first line of a file for Emacs.
_COOKIE = re.compile(
    rb"[ \t\f]*#.{0,200}?coding[:=][ \t]*([-_.a-zA-Z0-9]+)|.{0,200}?-\*-.{0,200}?coding:[ \t]*([-_.a-zA-Z0-9]+)"
)


def declared_in_comment(data: bytes) -> str | None:
    """Return the label in a comment of the first two lines (`# -*- coding: latin-1 -*-`); None without one."""
    for line in data[:1024].split(b"\n")[:2]:
        if (cookie := _COOKIE.match(line)) is not None:
            return _first(cookie)
    return None


def declared_encoding(data: bytes, *, is_xml: bool) -> str | None:
    """Return the label that a document declares, without judging it; None if it declares none.

    A charset in a comment, in a script's attribute or in the text of the page does not count.
    """
    head = data[:_MOST_BYTES]
    wide = _WIDE_START.match(head)
    if wide is not None and wide.lastgroup is not None:
        return wide.lastgroup.replace("_", "-", 1)
    xml = _XML.match(head)
    of_xml = None if xml is None else _first(xml)
    return of_xml if is_xml else _of_meta(head) or of_xml


def _of_meta(head: bytes) -> str | None:
    at = 0
    while (at := head.find(b"<", at)) >= 0:
        if head.startswith(b"<!--", at):
            end = head.find(b"-->", at + 2)
            if end < 0:
                return None
            at = end + 3
        elif (name := _NAME.match(head, at)) is not None:
            attributes, at = _attributes(head, name.end())
            if name[0].lower() == b"<meta" and (label := _label_of(attributes)) is not None:
                return label
        elif _END.match(head, at):
            _, at = _attributes(head, at + 2)
        elif head[at + 1 : at + 2] in (b"!", b"/", b"?"):
            at = head.find(b">", at)
            if at < 0:
                return None
        else:
            at += 1
    return None


def _attributes(head: bytes, at: int) -> tuple[dict[bytes, bytes], int]:
    """Return a tag's attributes, the first of each name, and where they end."""
    found: dict[bytes, bytes] = {}
    while (attribute := _ATTRIBUTE.match(head, at)) is not None:
        found.setdefault(attribute[1].lower(), attribute[2] or attribute[3] or attribute[4] or b"")
        at = attribute.end()
    return found, at


def _label_of(meta: dict[bytes, bytes]) -> str | None:
    if b"charset" in meta:
        label = meta[b"charset"]
    elif meta.get(b"http-equiv", b"").lower() == b"content-type":
        content = _CONTENT.search(meta.get(b"content", b""))
        if content is None:
            return None
        label = content[1] or content[2] or content[3] or b""
    else:
        return None
    return label.decode("ascii", "backslashreplace").strip() or None


def _first(match: re.Match[bytes]) -> str | None:
    return (match[1] or match[2] or b"").decode("ascii", "backslashreplace").strip() or None
