"""Connections without session state: they work behind a transaction pooler and die loudly.

No server-side prepared statements, no session SET, no advisory locks: whatever a transaction needs
it sets locally. Connections are in autocommit mode; `transaction` opens an explicit one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
from pgvector.psycopg import register_vector
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ragops import __version__
from ragops.errors import DatabaseUnavailable, PlanRefused, UsageError

Connection = psycopg.Connection[tuple[Any, ...]]

# What a lost or refused connection raises; a caller that can wait catches these.
DATABASE_ERRORS = (psycopg.Error,)
# Two transactions that wait for each other: the server ends one of them, which then tries again.
COLLISIONS = (psycopg.errors.DeadlockDetected,)
OUTAGES = (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnavailable)
_ENCRYPTED = {"require", "verify-ca", "verify-full"}


@dataclass(frozen=True, slots=True)
class Target:
    """A database to connect to. `conninfo` may hold a password and is never shown; `label` is."""

    conninfo: str
    label: str
    is_embedded: bool = False

    def __repr__(self) -> str:
        return f"Target({self.label})"


def parse_dsn(dsn: str, *, allow_plaintext: bool = False) -> Target:
    """A checked DSN (URI or key=value form).

    Raises UsageError when it is malformed or would reach another machine without TLS; the message
    never repeats the DSN, as libpq's own does (with the password).
    """
    parts = _parts(dsn)
    if not _reaches_only_this_machine(parts) and not allow_plaintext:
        mode = parts.get("sslmode")
        if mode is None:
            parts["sslmode"] = "require"
        elif mode not in _ENCRYPTED:
            raise UsageError(
                "this DSN could send passwords and documents to another machine unencrypted",
                where=_label(parts),
                actual=f"sslmode={mode}",
                expected="sslmode=require, verify-ca or verify-full",
                hint="drop sslmode from the DSN, or set database.allow_plaintext: true in the playbook",
            )
    return Target(make_conninfo(**parts), _label(parts))


def _parts(dsn: str) -> dict[str, str]:
    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    except (psycopg.ProgrammingError, UnicodeError):
        parts = {}
        is_sound = False
    else:
        is_sound = not _is_misread(dsn, parts)
    if is_sound:
        return parts
    raise UsageError(
        "the DSN is malformed",
        expected="postgresql://USER@HOST:PORT/DATABASE or host=… dbname=… user=…",
        hint="check --dsn, RAGOPS_DSN or the playbook's database.dsn; percent-encode special characters",
    )


def _is_misread(dsn: str, parts: dict[str, str]) -> bool:
    """Whether libpq took a part of the password for host, port or database: an `@`, `/` or NUL not encoded."""
    address = dsn.split("://", 1)[1].split("?", 1)[0] if "://" in dsn.split("=", 1)[0] else ""
    before, at, after = address.partition("@")
    return (
        "\x00" in dsn
        or bool(at and "/" in before)
        or "@" in after
        or any("@" in host[1:] for host in parts.get("host", "").split(","))
        or re.fullmatch(r"[0-9,]*", parts.get("port", "")) is None
    )


def _reaches_only_this_machine(parts: dict[str, str]) -> bool:
    """libpq connects to `hostaddr` where it is given; without any host PGHOST or a service may name one."""
    found = parts.get("hostaddr") or parts.get("host")
    if not found and "service" in parts:
        return False
    if not found:
        defaults = {o.keyword: o.val.decode() for o in pq.Conninfo.get_defaults() if o.val}
        found = defaults.get(b"hostaddr") or defaults.get(b"host") or ""
    return all(_is_local(host) for host in found.split(","))


def _is_local(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _label(parts: dict[str, str]) -> str:
    user = f"{quote(parts['user'])}@" if "user" in parts else ""
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    host = f"[{host}]" if ":" in host else host
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql://{user}{host}{port}/{parts.get('dbname', '')}"


def connect(target: Target, *, timeout_s: int = 10, with_vector: bool = True) -> Connection:
    """Open a connection in autocommit mode, with pgvector's types registered.

    Raises DatabaseUnavailable when there is none, PlanRefused when pgvector is missing.
    """
    try:
        connection = psycopg.connect(
            target.conninfo,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=timeout_s,
            application_name=f"ragops {__version__}",
            keepalives_idle=20,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=60_000,
        )
    except psycopg.Error as error:
        raise unavailable(target, error) from None
    if with_vector:
        try:
            register_vector(connection)
        except psycopg.ProgrammingError:
            connection.close()
            raise missing_pgvector(target) from None
    return connection


def unavailable(target: Target, error: Exception) -> DatabaseUnavailable:
    """The error for a connection that could not be had or was lost; it repeats no password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return DatabaseUnavailable(
        "the database cannot be reached",
        where=target.label,
        actual="; ".join(lines[:2]) if lines else type(error).__name__,
        hint="check that the server runs and that --dsn, RAGOPS_DSN or database.dsn names it",
    )


def missing_pgvector(target: Target) -> PlanRefused:
    return PlanRefused(
        "the extension pgvector is not installed in this database",
        where=target.label,
        expected="CREATE EXTENSION vector",
        hint="ragops db init" + ("" if target.is_embedded else " --dsn …") + "   (or run the SQL as its owner)",
    )


@contextmanager
def transaction(
    connection: Connection,
    *,
    lock_timeout_s: float | None = None,
    is_long: bool = False,
    settings: dict[str, str] | None = None,
) -> Iterator[Connection]:
    """One explicit transaction with settings that end with it.

    `lock_timeout_s` bounds the wait for each lock; `is_long` lifts a role's `statement_timeout`
    (Supabase sets two minutes).
    """
    with connection.transaction():
        local = dict(settings or {})
        if lock_timeout_s is not None:
            local["lock_timeout"] = f"{int(lock_timeout_s * 1000)}ms"
        if is_long:
            local["statement_timeout"] = "0"
            local["idle_in_transaction_session_timeout"] = "0"
        for name, value in local.items():
            connection.execute(set_parameter_sql(name, value))
        yield connection


def execute_within_timeout(connection: Connection, query: sql.Composed) -> bool:
    """Execute a statement that cannot lift the role's `statement_timeout`; False when that timeout ended it.

    VACUUM is one: it runs outside a transaction, where SET LOCAL has no effect.
    """
    try:
        connection.execute(query)
    except psycopg.errors.QueryCanceled:
        return False
    return True


def set_parameter_sql(name: str, value: str, *, is_local: bool = True) -> sql.Composed:
    """SET LOCAL, or SET for a session that belongs to one statement and ends after it."""
    how = sql.SQL("SET LOCAL {} = {}" if is_local else "SET {} = {}")
    return how.format(sql.Identifier(*name.split(".")), sql.Literal(value))


def is_direct(connection: Connection, backend_pid: int) -> bool:
    """Whether no pooler stands between: one gives its clients other keys than the server's process ids."""
    return connection.info.backend_pid == backend_pid
