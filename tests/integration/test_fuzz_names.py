"""Random names of tables and columns: refused, or quoted so that the server knows them by exactly that name."""

from __future__ import annotations

import random

import pytest
from psycopg import sql

from ragops.playbook.names import MAX_IDENTIFIER_BYTES, TableName, check_identifier
from ragops.postgres.connection import Connection
from ragops.postgres.statements import identifier, statement

COUNTS = [pytest.param(300, id="some"), pytest.param(10_000, id="all", marks=pytest.mark.slow)]
FEWER = [pytest.param(60, id="some"), pytest.param(2000, id="all", marks=pytest.mark.slow)]
PIECES = (
    *('"', '""', "'", "''", "\\", "%", "%%", "%s", "%(name)s", "{", "}", "{}", "{documents}", "{{}}", "$1", "$$"),
    *(
        ";",
        "--",
        "/*",
        "*/",
        "\n",
        "\r",
        "\t",
        " ",
        ".",
        ",",
        "(",
        ")",
        "::text",
        "\x00",
        "\x01",
        "\x7f",
        "\u2028",
    ),
    *("\ufeff", "é", "日本", "😀", "\u0301", "\u202e", "\ud800", "a", "A", "select", "table", "x" * 30, "x" * 70),
    *("E'", 'U&"', "\\0041", "' OR 1=1 --", '" CASCADE', "pg_catalog", "public."),
    *("; DROP TABLE canary; --", '"; DROP TABLE canary; --'),
)


def random_name(rng: random.Random) -> str:
    return "".join(rng.choices(PIECES, k=rng.randint(0, 5)))


@pytest.mark.parametrize("count", COUNTS)
def test_a_name_is_refused_or_means_itself(dsn: str, connection: Connection, count: int) -> None:
    connection.execute("CREATE TABLE canary (is_there boolean)")
    taken = 0
    for seed in range(count):
        name = random_name(random.Random(seed))
        try:
            assert check_identifier(name) == name
        except ValueError as error:
            is_storable = name and "\0" not in name and "\ud800" not in name
            assert not is_storable or len(name.encode()) > MAX_IDENTIFIER_BYTES, f"seed {seed}: {error}"
            continue
        taken += 1
        # As an alias of a column, without and with parameters, where psycopg reads % in another way.
        for parameters in (None, {"value": 1}):
            value = sql.SQL("%(value)s::int") if parameters else sql.Literal(1)
            part = sql.Identifier(name)
            quoted = sql.SQL(part.as_string(connection).replace("%", "%%")) if parameters else part
            query = sql.SQL("SELECT {} AS {} FROM canary RIGHT JOIN (SELECT 1) one ON true").format(value, quoted)
            found = connection.execute(query, parameters)
            assert found.description is not None
            assert ([column.name for column in found.description], found.fetchall()) == ([name], [(1,)]), seed


@pytest.mark.parametrize(
    "count", [pytest.param(60, id="some"), pytest.param(2000, id="all", marks=pytest.mark.slow)]
)
def test_a_table_by_a_random_name_is_that_table(connection: Connection, count: int) -> None:
    """Through a statement of ragops with parameters, and one without."""
    connection.execute("CREATE TABLE canary (is_there boolean)")
    for seed in range(count):
        rng = random.Random(seed)
        text = ".".join('"' + random_name(rng).replace('"', '""') + '"' for _ in range(rng.choice((1, 1, 2))))
        try:
            name = TableName.parse(text)
        except ValueError:
            continue
        with connection.transaction(force_rollback=True):
            if name.schema is not None:
                if name.schema.startswith("pg_"):
                    continue
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name.schema)))
            connection.execute(sql.SQL("CREATE TABLE {} (a int)").format(identifier(name)))
            (count_rows,) = connection.execute(statement("catalog", "count_rows", {"table": identifier(name)}))
            assert count_rows == (0,)
            found = connection.execute(
                "SELECT relname FROM pg_class WHERE oid = to_regclass(%(name)s)",
                {"name": identifier(name).as_string(connection)},
            ).fetchone()
            assert found == (name.name,), f"seed {seed}"
    assert connection.execute("SELECT to_regclass('canary') IS NOT NULL").fetchone() == (True,)
