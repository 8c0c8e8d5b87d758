"""Named SQL: every statement is described where it stands, and the description stays out of what is sent."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from psycopg import sql

from ragops.postgres.statements import statement, statement_names, text_of

FOLDER = resources.files("ragops.postgres").joinpath("sql")
FILES = sorted(entry.name.removesuffix(".sql") for entry in FOLDER.iterdir() if entry.name.endswith(".sql"))
# Edited with the ledger.
UNDESCRIBED = {"ledger"}


def test_all_files_are_found() -> None:
    assert {"catalog", "ledger", "progress", "queue", "ragops_schema", "reader", "source", "tables"} <= set(FILES)


@pytest.mark.parametrize("file", [name for name in FILES if name not in UNDESCRIBED])
def test_every_statement_is_described(file: str) -> None:
    text = FOLDER.joinpath(f"{file}.sql").read_text(encoding="utf-8")
    described = re.findall(r"^-- name: (\w+)\n-- \S", text, re.MULTILINE)
    assert tuple(described) == statement_names(file)


def test_a_description_is_not_sent() -> None:
    query = text_of(statement("catalog", "count_rows", {"table": sql.Identifier("a", "b")}))
    assert query == 'SELECT count(*) FROM "a"."b"'


def test_a_percent_sign_is_doubled_only_beside_parameters() -> None:
    name = sql.Identifier("100%")
    assert text_of(statement("catalog", "count_rows", {"table": name})) == 'SELECT count(*) FROM "100%"'
    placeholders = {"table": sql.Identifier("t"), "id": name, "path": sql.Identifier("p")}
    query = text_of(statement("reader", "id_of_path", placeholders))
    assert query == 'SELECT "100%%" FROM "t" d WHERE "p" = %(path)s'


def test_a_line_without_a_value_can_be_left_out() -> None:
    with pytest.raises(KeyError):
        statement("tables", "drop_tables")
    assert text_of(statement("tables", "drop_tables", drop_unknown_lines=True)) == ""
