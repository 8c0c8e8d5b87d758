"""Open connections that keep no session state, so that they work behind a transaction pooler.

No server-side prepared statements, no session SET, no advisory locks: a transaction sets locally what it needs.
Connections are in autocommit mode; `transaction` opens an explicit transaction.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq, sql

from ragops import __version__
from ragops.errors import DatabaseUnavailable, PlanRefused
from ragops.postgres.collisions import COLLIDED, ReadCommittedConnection, execute_outside
from ragops.postgres.dead_clients import end_with_client
from ragops.postgres.dsn import ALLOW
from ragops.postgres.dsn import Target as Target
from ragops.postgres.dsn import parse_dsn as parse_dsn
from ragops.postgres.statements import statement
from ragops.postgres.vector_type import register_vector_types
from ragops.postgres.watchdog import register

# psycopg reads times in the ISO style alone, and a role or a database may have another default. libpq sends this
# one when it connects, and PgBouncer keeps it for its client; the parameter `options` it refuses.
os.environ["PGDATESTYLE"] = "ISO, YMD"

# What psycopg logs, such as a request to cancel that found no server, is reported otherwise.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

Connection = psycopg.Connection[tuple[Any, ...]]

# Everything that the server or libpq reports, for callers that must not import psycopg themselves.
DATABASE_ERRORS = (psycopg.Error,)
# What ends a look into a table: another session's lock, or privileges that the role lacks.
UNREADABLE = (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege)
# The same for ragops' own tables, which a database that only other programs have written does not have.
NOT_RECORDED = (*UNREADABLE, psycopg.errors.UndefinedTable)
# The server aborts one of the transactions that collide; the same one works when it is run again.
COLLISIONS = COLLIDED
# Raised by a lost or refused connection, but not only then: psycopg counts lock timeouts, cancelled statements and
# a full disk among OperationalError too. `is_lost` tells the cases apart.
OUTAGES = (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnavailable)


def connect(target: Target, *, timeout_s: int = 10, with_vector: bool = True) -> Connection:
    """Open a connection in autocommit mode, with pgvector's types registered unless `with_vector` is false.

    Raises DatabaseUnavailable if the server cannot be reached, PlanRefused if pgvector is not installed.
    """
    try:
        connection = ReadCommittedConnection.connect(
            target.conninfo,
            autocommit=True,
            # Behind a transaction pooler the next transaction may run on a server connection that does not have
            # the prepared statement: https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
            prepare_threshold=None,
            connect_timeout=timeout_s,
            # Whatever PGCLIENTENCODING says: binary COPY sends UTF-8, and texts are compared with files, which are
            # UTF-8. The server converts from and to the database's own encoding.
            client_encoding="UTF8",
            # A name of its own, by which a connection is found in pg_stat_activity behind a pooler, too.
            application_name=f"ragops {__version__} {secrets.token_hex(3)}",
            # A server that vanished is noticed after 20 + 3 × 10 = 50 s, or 60 s after data was sent (ignored if
            # the system lacks TCP_USER_TIMEOUT). The defaults of Linux are two hours and about 15 minutes.
            keepalives_idle=20,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=60_000,
        )
    except psycopg.Error as error:
        raise unavailable(target, error) from None
    register(connection)
    connection.keep_read_committed()
    if with_vector and not register_vector_types(connection):
        connection.close()
        raise missing_pgvector(target)
    return connection


def session_name(connection: Connection) -> str | None:
    """Return the name that this connection alone has in pg_stat_activity; None once it is closed."""
    return None if connection.closed else connection.info.parameter_status("application_name")


def end_session(connection: Connection, name: str) -> None:
    """End an earlier session of this role whose client, a connection of this process, has lost it."""
    connection.execute(statement("catalog", "end_session"), {"name": name})


def unavailable(target: Target, error: Exception) -> DatabaseUnavailable:
    """Return the error for a connection that was refused or lost. It repeats no password."""
    # Two lines: libpq's second one often names the thing to check ("Is the server running on that host …?").
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("does not support SSL" in line for line in lines):
        return DatabaseUnavailable(
            "the server has no TLS, and this connection must be encrypted",
            where=target.label,
            actual=lines[0],
            expected="sslmode=require, which ragops adds for another machine by itself"
            if target.asks_tls
            else "TLS, which the DSN's sslmode asks for",
            hint=f"turn on ssl in the server's postgresql.conf; or {ALLOW}",
        )
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


def close_if_busy(connection: Connection) -> None:
    """Close a connection that a signal interrupted between a statement and its result: it can run nothing more."""
    if connection.info.transaction_status == pq.TransactionStatus.ACTIVE:
        connection.close()


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

    `lock_timeout_s` limits the wait for each lock, 0 not at all; `is_long` lifts the role's `statement_timeout`
    (Supabase sets two minutes), and ends the transaction when this process dies.
    """
    # SET LOCAL, because behind a transaction pooler a session's SET stays with a server connection that the next
    # client gets.
    with connection.transaction():
        local: dict[str, str] = {}
        if lock_timeout_s is not None:
            local["lock_timeout"] = f"{int(lock_timeout_s * 1000)}ms"
        if is_long:
            local["statement_timeout"] = "0"
            local["idle_in_transaction_session_timeout"] = "0"
            if connection.info.server_version >= 170000:
                local["transaction_timeout"] = "0"
        local.update(settings or {})
        for name, value in local.items():
            connection.execute(set_parameter_sql(name, value))
        if is_long:
            end_with_client(connection)
        yield connection


def execute_within_timeout(connection: Connection, query: sql.Composed) -> bool:
    """Execute a statement that cannot lift the role's `statement_timeout`; False when that timeout ended it.

    VACUUM is one: it runs outside a transaction, where SET LOCAL has no effect.
    """
    try:
        execute_outside(connection, query)
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
