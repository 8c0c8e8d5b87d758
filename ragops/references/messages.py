"""Reduce URLs and responses to what may be shown: one line, no password, no key."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

# An error page may be megabytes long; its first sentence is enough to find it in the backend's log.
SHOWN_CHARACTERS = 200


def message_in(content: bytes) -> str:
    """Return the message of an error response; understands OpenAI, Ollama, TEI, FastAPI and plain text."""
    text = content[: 64 * 1024].decode("utf-8", "replace")
    try:
        message: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # In this order the keys also nest: {"error": {"message": "..."}} is OpenAI's form, `what` ragops' own.
    for key in ("error", "message", "detail", "what"):
        if isinstance(message, dict) and message.get(key):
            message = message[key]
    return message if isinstance(message, str) else json.dumps(message)


def safe_line(text: str, *, secrets: Iterable[str]) -> str:
    """Return one printable line of bounded length with every secret masked."""
    # The longest first: one secret may contain another.
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def secrets_in(url: str) -> set[str]:
    """Return the password of a URL and the values of its query, both as written and decoded."""
    try:
        parts = urlsplit(url)
        values = [parts.password or "", *(pair.partition("=")[2] for pair in parts.query.split("&"))]
    except ValueError:
        values = []
    # Masking values such as `q=hi` would make messages unreadable; a key is longer.
    return {form for value in values if len(value) >= 6 for form in (value, unquote(value))}
