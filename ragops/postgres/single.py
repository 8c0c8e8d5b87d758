"""Run SQL that comes from a table or a playbook as one statement, and never as several."""

from __future__ import annotations

import re

from psycopg import sql

from ragops.errors import PlanRefused
from ragops.facts import TableFacts
from ragops.postgres.collisions import execute_outside
from ragops.postgres.connection import Connection

_NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'
# As pg_get_indexdef prints it, with the word that `restore_index_sql` may add.
_CREATE_INDEX = re.compile(
    rf"CREATE (?:UNIQUE )?INDEX (?:CONCURRENTLY )?{_NAME}"
    rf" ON (?:ONLY )?(?P<schema>{_NAME})\.(?P<table>{_NAME}) USING "
)


def execute_single(connection: Connection, query: sql.Composed) -> None:
    """Execute one statement without a result. Raises psycopg's SyntaxError if the text has several.

    psycopg sends a text without parameters as it stands, and the server executes every statement in it. Binary
    results need the extended protocol, which takes a single statement and prepares nothing by name.
    """
    execute_outside(connection, query, binary=True)


def check_index_definition(definition: str, table: TableFacts) -> None:
    """Raise PlanRefused unless a definition is CREATE INDEX on this table."""
    found = _CREATE_INDEX.match(definition)
    if found and (_plain(found["schema"]), _plain(found["table"])) == (table.schema, table.name):
        return
    raise PlanRefused(
        "the journal has an index definition that is not CREATE INDEX on its table; nothing was changed",
        where="ragops.index_definition",
        actual=f"{definition:.200}",
        expected=f"CREATE INDEX … ON {table.qualified} …, as pg_get_indexdef printed it",
        hint="find out who changed it, and delete the row",
    )


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
