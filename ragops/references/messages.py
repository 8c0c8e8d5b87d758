"""What may be shown of a URL and of an answer: no password, no key, one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

SHOWN_CHARACTERS = 200


def shown_url(url: str) -> str:
    """A URL for people: without user, password, query and fragment."""
    address = url.split("?", 1)[0].split("#", 1)[0]
    return re.sub(r"//.*@", "//", address)


def message_in(content: bytes) -> str:
    """What an error answer says, as OpenAI, Ollama, TEI, FastAPI and plain servers spell it."""
    text = content[: 64 * 1024].decode("utf-8", "replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for key in ("error", "message", "detail", "what"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    return found if isinstance(found, str) else json.dumps(found)


def safe_line(text: str, *, secrets: Iterable[str]) -> str:
    """One printable line of bounded length with every secret replaced."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def secrets_in(url: str) -> set[str]:
    """The password of a URL and the values of its query, as written and decoded; short ones tell nothing."""
    try:
        parts = urlsplit(url)
        values = [parts.password or "", *(pair.partition("=")[2] for pair in parts.query.split("&"))]
    except ValueError:
        values = []
    return {form for value in values if len(value) >= 6 for form in (value, unquote(value))}
