"""Store text in databases that are not UTF-8: what their encoding does not have is spelled in ASCII."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

# Signs that ragops itself writes, in letters that every encoding has.
_ASCII = str.maketrans(
    {"≤": "<=", "≥": ">=", "≈": "~", "→": "->", "…": "...", "×": "x", "–": "-", "—": "-", "“": '"', "”": '"'}
)
# PostgreSQL's names that Python does not know: https://www.postgresql.org/docs/current/multibyte.html
_CODECS = {"KOI8R": "koi8_r", "KOI8U": "koi8_u", "WIN866": "cp866", "WIN874": "cp874"}


def storable(connection: psycopg.Connection[Any], value: Any) -> Any:
    """Return a JSON value whose texts the database can store; unchanged where its encoding is UTF-8."""
    encoding = server_encoding(connection)
    return value if encoding == "UTF8" else _storable(value, encoding)


def server_encoding(connection: psycopg.Connection[Any]) -> str:
    """Return the encoding of the database, in PostgreSQL's spelling."""
    return connection.info.parameter_status("server_encoding") or "UTF8"


def codec_of(connection: psycopg.Connection[Any]) -> str:
    """Return Python's name of the encoding that texts must have; `utf-8` where the database takes all of them."""
    encoding = server_encoding(connection)
    # SQL_ASCII takes the bytes as they are.
    return "utf-8" if encoding in ("UTF8", "SQL_ASCII") else _codec(encoding)


def jsonb(connection: psycopg.Connection[Any], value: object) -> Jsonb:
    """Return a parameter of type jsonb that the database can store."""
    # Without \u escapes: a server whose encoding is not UTF-8 refuses those above U+007F.
    return Jsonb(storable(connection, value), dumps=partial(json.dumps, ensure_ascii=False))


def _storable(value: Any, encoding: str) -> Any:
    if isinstance(value, str):
        return _text(value, encoding)
    if isinstance(value, Mapping):
        return {_storable(key, encoding): _storable(item, encoding) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item, encoding) for item in value]
    return value


def _text(text: str, encoding: str) -> str:
    if text.isascii() or encoding == "SQL_ASCII":
        # SQL_ASCII takes the bytes as they are.
        return text
    codec = _codec(encoding)
    try:
        text.encode(codec)
        return text
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(codec, "backslashreplace").decode(codec)


@cache
def _codec(encoding: str) -> str:
    name = _CODECS.get(encoding) or (f"cp{encoding[3:]}" if encoding.startswith("WIN") else encoding)
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "ascii"
