"""Open connections that keep no session state, so that they work behind a transaction pooler.

No server-side prepared statements, no session SET, no advisory locks: a transaction sets locally what it needs.
Connections are in autocommit mode; `transaction` opens an explicit transaction.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
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

# Everything that the server or libpq reports, for callers that must not import psycopg themselves.
DATABASE_ERRORS = (psycopg.Error,)
# Deadlocks: the server aborts one of the transactions, which the caller runs again on the same connection.
COLLISIONS = (psycopg.errors.DeadlockDetected,)
# Raised by a lost or refused connection, but not only then: psycopg counts lock timeouts, cancelled statements and
# a full disk among OperationalError too. `is_lost` tells the cases apart.
OUTAGES = (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnavailable)
# libpq's default sslmode, `prefer`, falls back to plaintext without an error, so only these count as encrypted:
# https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
_ENCRYPTED = {"require", "verify-ca", "verify-full"}


@dataclass(frozen=True, slots=True)
class Target:
    """A database to connect to. `conninfo` may hold a password and is never printed; `label` is."""

    conninfo: str
    label: str
    is_embedded: bool = False

    def __repr__(self) -> str:
        return f"Target({self.label})"


def parse_dsn(dsn: str, *, allow_plaintext: bool = False) -> Target:
    """Parse and check a DSN (URI or key=value form).

    Raises UsageError if it is malformed or would reach another machine without TLS. The message never repeats
    the DSN: libpq's own message does, with the password.
    """
    parts: dict[str, str] | None
    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    except (psycopg.ProgrammingError, UnicodeError):
        parts = None
    # Raised outside of the except clause, so that no traceback chains libpq's message, which holds the password.
    if parts is None or _is_misread(dsn, parts):
        raise UsageError(
            "the DSN is malformed",
            expected="postgresql://USER@HOST:PORT/DATABASE or host=… dbname=… user=…",
            hint="check --dsn, RAGOPS_DSN or the playbook's database.dsn; percent-encode special characters",
        )
    if not _is_on_this_machine(parts) and not allow_plaintext:
        mode = parts.get("sslmode")
        if mode is None:
            parts["sslmode"] = "require"
        elif mode not in _ENCRYPTED:
            raise UsageError(
                "this DSN permits an unencrypted connection to another machine",
                where=_label(parts),
                actual=f"sslmode={mode}",
                expected="sslmode=require, verify-ca or verify-full",
                hint="drop sslmode from the DSN, or set database.allow_plaintext: true in the playbook",
            )
    return Target(make_conninfo(**parts), _label(parts))


def _is_misread(dsn: str, parts: Mapping[str, str]) -> bool:
    """Return whether libpq took a part of the password for host, port or database.

    It happens with an `@`, `/` or NUL that is not percent-encoded. libpq then reports an unknown host, and its
    message prints the rest of the password.
    """
    address = dsn.split("://", 1)[1].split("?", 1)[0] if "://" in dsn.split("=", 1)[0] else ""
    before, at, after = address.partition("@")
    return (
        "\x00" in dsn
        or bool(at and "/" in before)
        or "@" in after
        # A leading @ is an abstract Unix socket, not a misread password.
        or any("@" in host[1:] for host in parts.get("host", "").split(","))
        or re.fullmatch(r"[0-9,]*", parts.get("port", "")) is None
    )


def _is_on_this_machine(parts: Mapping[str, str]) -> bool:
    """Return whether every host of the DSN is this machine."""
    # libpq connects to `hostaddr` if it is given; `host` is then only the name to verify.
    hosts = parts.get("hostaddr") or parts.get("host")
    if not hosts:
        if "service" in parts:
            # The service file may name any host; it is not read here.
            return False
        defaults = {option.keyword: option.val.decode() for option in pq.Conninfo.get_defaults() if option.val}
        hosts = defaults.get(b"hostaddr") or defaults.get(b"host") or ""
    for host in hosts.split(","):
        # An absolute path or a leading @ is a Unix socket, and an empty name libpq's default socket.
        if not host or host.startswith(("/", "@")) or host == "localhost":
            continue
        try:
            if not ipaddress.ip_address(host).is_loopback:
                return False
        except ValueError:
            return False
    return True


def _label(parts: Mapping[str, str]) -> str:
    """Return the DSN's user, host, port and database as a URI; no password, no other parameter."""
    user = f"{quote(parts['user'])}@" if "user" in parts else ""
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    host = f"[{host}]" if ":" in host else host
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql://{user}{host}{port}/{parts.get('dbname', '')}"


def connect(target: Target, *, timeout_s: int = 10, with_vector: bool = True) -> Connection:
    """Open a connection in autocommit mode, with pgvector's types registered unless `with_vector` is false.

    Raises DatabaseUnavailable if the server cannot be reached, PlanRefused if pgvector is not installed.
    """
    try:
        connection = psycopg.connect(
            target.conninfo,
            autocommit=True,
            # Behind a transaction pooler the next transaction may run on a server connection that does not have
            # the prepared statement: https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
            prepare_threshold=None,
            connect_timeout=timeout_s,
            application_name=f"ragops {__version__}",
            # A server that vanished is noticed after 20 + 3 × 10 = 50 s, or 60 s after data was sent (ignored if
            # the system lacks TCP_USER_TIMEOUT). The defaults of Linux are two hours and about 15 minutes.
            keepalives_idle=20,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=60_000,
        )
    except psycopg.Error as error:
        raise unavailable(target, error) from None
    # Whatever the role's default is: a snapshot from before a lock would not show what was written until it came.
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    if with_vector:
        try:
            register_vector(connection)
        except psycopg.ProgrammingError:
            connection.close()
            raise missing_pgvector(target) from None
    return connection


def unavailable(target: Target, error: Exception) -> DatabaseUnavailable:
    """Return the error for a connection that was refused or lost. It repeats no password."""
    # Two lines: libpq's second one often names the thing to check ("Is the server running on that host …?").
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return DatabaseUnavailable(
        "the database cannot be reached",
        where=target.label,
        actual="; ".join(lines[:2]) if lines else type(error).__name__,
        hint="check that the server is running and that --dsn, RAGOPS_DSN or database.dsn points to it",
    )


def is_lost(connection: Connection | None) -> bool:
    """Return whether a connection must be opened (again) before it can be used."""
    # psycopg's `broken` implies `closed`: both read the status of libpq's connection.
    return connection is None or connection.closed


def missing_pgvector(target: Target) -> PlanRefused:
    """Return the error for a database without the extension `vector`."""
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
    settings: Mapping[str, str] | None = None,
) -> Iterator[Connection]:
    """Open an explicit transaction with settings that end with it.

    `lock_timeout_s` limits the wait for each lock; `is_long` lifts the role's `statement_timeout`
    (Supabase sets two minutes).
    """
    # SET LOCAL, because behind a transaction pooler a session's SET stays with a server connection that the next
    # client gets.
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
    """Compose SET LOCAL, or SET for a session that runs one statement and ends after it."""
    how = sql.SQL("SET LOCAL {} = {}" if is_local else "SET {} = {}")
    return how.format(sql.Identifier(*name.split(".")), sql.Literal(value))


def is_direct(connection: Connection, backend_pid: int) -> bool:
    """Return whether no pooler is in between; `backend_pid` is the server's `pg_backend_pid()`."""
    # A pooler gives its clients cancel keys of its own, whose process id is not the server's.
    return connection.info.backend_pid == backend_pid


def fetch_row(
    connection: Connection, query: sql.Composed, values: Mapping[str, object] | Sequence[object] | None = None
) -> tuple[Any, ...]:
    """Return the first row of a query that always has one, such as an aggregate without GROUP BY."""
    row = connection.execute(query, values).fetchone()
    assert row is not None, "the query returned no row"
    return row
