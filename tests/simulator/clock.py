"""A virtual clock inside PostgreSQL: `now()` and `clock_timestamp()` of the schema `sim` hide the server's own.

ragops' SQL names both without a schema, so a search path that begins with `sim` is enough. The time is the value
of a sequence: a sequence is outside of transactions, so a new time is seen at once by every session, whatever its
snapshot is, and `setval` costs one round trip for all of them.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]

# 2031-01-01 00:00 UTC in microseconds: far from the clock of every machine that runs this, so that a program which
# looks at its own clock is noticed.
BEGINNING_US = 1_924_992_000_000_000

_CLOCK = """
CREATE SCHEMA sim;
CREATE SEQUENCE sim.clock MINVALUE 0;
SELECT setval('sim.clock', {beginning});
CREATE FUNCTION sim.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN timestamptz 'epoch' + (SELECT last_value FROM sim.clock) * interval '1 microsecond';
END $$;
-- The time at which the transaction first asked, for as long as it lasts.
CREATE FUNCTION sim.now() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    began text := current_setting('sim.began', true);
BEGIN
    IF began IS NULL OR began = '' THEN
        began := (SELECT last_value FROM sim.clock)::text;
        PERFORM set_config('sim.began', began, true);
    END IF;
    RETURN timestamptz 'epoch' + began::bigint * interval '1 microsecond';
END $$;
CREATE FUNCTION sim.transaction_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT sim.now()';
CREATE FUNCTION sim.statement_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT sim.clock_timestamp()';
"""
# Defaults were bound to the server's functions when the tables were made.
_DEFAULTS = """
SELECT format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT sim.now()', d.adrelid::regclass, a.attname)
  FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
 WHERE pg_get_expr(d.adbin, d.adrelid) IN ('now()', 'clock_timestamp()')
"""


def install_clock(connection: Connection, *, database: str) -> None:
    """Give a database the virtual clock; sessions that begin later have it."""
    connection.execute(_CLOCK.format(beginning=BEGINNING_US).encode())
    for (statement,) in connection.execute(_DEFAULTS.encode()).fetchall():
        connection.execute(statement.encode())
    set_path = sql.SQL("ALTER DATABASE {} SET search_path = sim, pg_catalog, public")
    connection.execute(set_path.format(sql.Identifier(database)))


def set_clock(connection: Connection, now_us: int) -> None:
    """Set the time for every session."""
    connection.execute("SELECT setval('sim.clock', %s)", (now_us,))
