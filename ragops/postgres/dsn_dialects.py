"""Translate DSNs as other programs write them into libpq's form, and say what was dropped.

SQLAlchemy, Django, JDBC, Prisma, node-postgres and asyncpg each have schemes and parameters of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

# Settings of other client libraries, which say nothing about where the database is: of Prisma, SQLAlchemy and
# asyncpg, JDBC, pgx and node-postgres, Doctrine and Django, Supabase and Vercel.
_DROPPED_WORDS = """
pgbouncer connection_limit pool_timeout socket_timeout statement_cache_size sslidentity
pool_size max_overflow prepared_statement_cache_size command_timeout async_fallback prepared_statement_name_func
applicationname preparethreshold preparedstatementcachequeries rewritebatchedinserts connecttimeout sockettimeout
logintimeout tcpkeepalive sslfactory autosave binarytransfer stringtype
uselibpqcompat binary_parameters timezone pool_max_conns pool_min_conns default_query_exec_mode
serverversion charset conn_max_age conn_health_checks
supa workaround
"""
_DROPPED = frozenset(_DROPPED_WORDS.split())
_SCHEMA = ("schema", "currentschema", "search_path")
# What other programs call sslmode, or say with it; libpq has no mode that only skips the certificate's check, but
# `require` does not check it either.
_SSL_KEYS = ("sslmode", "ssl", "tls", "ssl_mode", "sslaccept")
_SSL_VALUES = {
    "true": "require",
    "1": "require",
    "yes": "require",
    "on": "require",
    "no-verify": "require",
    "accept_invalid_certs": "require",
    "strict": "verify-full",
    "false": "disable",
    "0": "disable",
    "no": "disable",
    "off": "disable",
}
_SCHEME = re.compile(
    r"(?:jdbc:)?(?:postgres|postgresql|postgis|pgsql|pgvector)(?:\+[a-z0-9_]+)?://", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"(?:export\s+|set\s+|\$env:)?[A-Za-z_][A-Za-z0-9_]*(?:\s*=\s*|\s*:\s+)(?=['\"]?[A-Za-z0-9:+]+://)"
)


@dataclass(frozen=True, slots=True)
class Translated:
    """A DSN in libpq's form."""

    dsn: str
    notes: tuple[str, ...] = ()
    """What was translated or dropped, by name; no value that might be secret."""
    schema: str | None = None
    """The schema for tables without one."""
    schema_is_list: bool = False
    """The schema is a list, so that it cannot stand before a table's name."""


def translate(dsn: str) -> Translated:
    """Return a DSN in libpq's form; one that libpq understands is returned unchanged."""
    notes: list[str] = []
    text = _unwrapped(dsn, notes)
    match = _SCHEME.match(text)
    if match is None:
        return Translated(text, tuple(notes))
    scheme = match[0].lower().removesuffix("://")
    if scheme not in ("postgresql", "postgres"):
        notes.append(f"{scheme}:// is read as postgresql://")
    address, mark, query = text[match.end() :].partition("?")
    kept: list[str] = []
    schema: str | None = None
    lowered = f"{scheme if scheme == 'postgres' else 'postgresql'}://{address}"
    if "@" in query and "@" not in address:
        # To libpq this is a password with a `?`: what follows is no parameter, and is shown to nobody.
        return Translated(f"{lowered}?{query}", tuple(notes))
    for pair in query.split("&") if mark else ():
        name, equals, value = pair.partition("=")
        key, word = name.lower(), unquote(value)
        if not equals:
            kept.append(pair)
        elif key in _SCHEMA:
            schema = word
        elif key in _SSL_KEYS:
            mode = _SSL_VALUES.get(word.lower(), word.lower() if key != "sslmode" else word)
            kept.append(f"sslmode={mode}")
            if (key, word) != ("sslmode", mode):
                said = f"={word}" if word.lower() in _SSL_VALUES else ""
                notes.append(f"{name}{said} is read as sslmode={mode if said else '…'}")
        elif key in _DROPPED:
            notes.append(f"{name} is not for ragops, and left out")
        else:
            kept.append(pair)
    joined = "&".join(kept)
    is_list = schema is not None and ("," in schema or not schema.strip())
    return Translated(
        lowered + (f"?{joined}" if joined else ""),
        tuple(notes),
        None if schema is None else schema.strip().strip('"'),
        is_list,
    )


def _unwrapped(dsn: str, notes: list[str]) -> str:
    """Return what is left of a pasted line: without spaces, quotes and the name of its variable."""
    text = dsn.strip()
    if assigned := _ASSIGNED.match(text):
        text = text[assigned.end() :].rstrip(";").strip()
        notes.append("the name of a variable before the URL is left out")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"`":
        text = text[1:-1].strip()
        notes.append("the quotes around the DSN are left out")
    return text
