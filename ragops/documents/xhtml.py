"""Write XHTML so that an HTML parser reads it as XML means it."""

from __future__ import annotations

import re
from html import escape

_XHTML = re.compile(r"\s*<\?xml\s|<html\s[^>]*xmlns\s*=")
_HEAD = 4096
# To an HTML parser `<script src="x"/>` and `<title/>` are not closed: all that follows would be script or title.
_CLOSED = re.compile(
    r"<((script|style|title|textarea|iframe|noframes|noembed|noscript|template|xmp|object|select|svg|math)\b"
    r"[^<>]*?)/>",
    re.IGNORECASE,
)


def as_html(markup: str) -> str:
    """Return XHTML with its empty elements closed and its CDATA sections resolved, other markup as it is."""
    if not (_XHTML.match(markup) or _XHTML.search(markup[:_HEAD])):
        return markup
    first, *sections = markup.split("<![CDATA[")
    resolved = [first]
    for section in sections:
        content, end, rest = section.partition("]]>")
        resolved.append(escape(content, quote=False) + rest if end else f"<![CDATA[{section}")
    return _CLOSED.sub(r"<\1></\2>", "".join(resolved))
