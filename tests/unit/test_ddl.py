"""The text of every composed statement, with names that try to get out of their quotes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts_factory import column, definition, hnsw, table

from ragops.playbook.model import Index
from ragops.postgres.archive import Archiving
from ragops.postgres.ddl import (
    analyze_sql,
    archive_sql,
    create_index_sql,
    delete_sql,
    drop_index_sql,
    lock_sql,
    restore_index_sql,
    restore_rows_sql,
    truncate_sql,
    vacuum_sql,
)
from ragops.postgres.statements import Statement, text_of

EVIL = 'x"; DROP TABLE users; --'
QUOTED = '"x""; DROP TABLE users; --"'
DOCUMENTS = table("documents")
ODD = table("documents", schema="my schema", name=EVIL)
COLUMNS = (column(EVIL, "bigint", is_identity=True), column("b"), column("size", "integer", is_generated=True))
GENERATED = replace(ODD, columns={c.name: c for c in COLUMNS})
COSINE = Index(name="i", table="documents")
TEXTS: list[tuple[Statement, str]] = [
    (drop_index_sql(hnsw("i")), 'DROP INDEX "public"."i"'),
    (drop_index_sql(hnsw(EVIL, schema="a.b")), f'DROP INDEX "a.b".{QUOTED}'),
    (
        Archiving(7, "documents", DOCUMENTS).statement,
        'CREATE TABLE "ragops"."archive_7_documents" AS TABLE "public"."documents"',
    ),
    (
        Archiving(7, "documents", ODD).statement,
        f'CREATE TABLE "ragops"."archive_7_documents" AS TABLE "my schema".{QUOTED}',
    ),
    (archive_sql(EVIL, DOCUMENTS), f'CREATE TABLE "ragops".{QUOTED} AS TABLE "public"."documents"'),
    (
        restore_rows_sql(GENERATED, EVIL, [EVIL, "b"]),
        f'INSERT INTO "my schema".{QUOTED} ({QUOTED}, "b") OVERRIDING SYSTEM VALUE '
        f'SELECT {QUOTED}, "b" FROM "ragops".{QUOTED}',
    ),
    (
        lock_sql((DOCUMENTS, ODD)),
        f'LOCK TABLE "public"."documents", "my schema".{QUOTED} IN ACCESS EXCLUSIVE MODE',
    ),
    (truncate_sql((DOCUMENTS,)), 'TRUNCATE TABLE "public"."documents"'),
    (truncate_sql((DOCUMENTS, ODD)), f'TRUNCATE TABLE "public"."documents", "my schema".{QUOTED}'),
    (delete_sql(DOCUMENTS), 'DELETE FROM "public"."documents"'),
    (delete_sql(ODD), f'DELETE FROM "my schema".{QUOTED}'),
    (vacuum_sql(DOCUMENTS), 'VACUUM "public"."documents"'),
    (vacuum_sql(ODD), f'VACUUM "my schema".{QUOTED}'),
    (analyze_sql(ODD), f'ANALYZE "my schema".{QUOTED}'),
    (
        create_index_sql(COSINE, DOCUMENTS, "embedding", concurrently=False),
        'CREATE INDEX "i" ON "public"."documents" USING hnsw ("embedding" "vector_cosine_ops") '
        "WITH (m = 16, ef_construction = 64)",
    ),
    (
        create_index_sql(
            Index(name=EVIL, table="documents", metric="l2", m=8, ef_construction=40), ODD, EVIL, concurrently=True
        ),
        f'CREATE INDEX CONCURRENTLY {QUOTED} ON "my schema".{QUOTED} USING hnsw ({QUOTED} "vector_l2_ops") '
        "WITH (m = 8, ef_construction = 40)",
    ),
    (
        create_index_sql(
            Index(name="{m} %s", table="documents", metric="ip"), DOCUMENTS, "{ops}", concurrently=False
        ),
        'CREATE INDEX "{m} %s" ON "public"."documents" USING hnsw ("{ops}" "vector_ip_ops") '
        "WITH (m = 16, ef_construction = 64)",
    ),
    (restore_index_sql(definition("i"), concurrently=False), definition("i")),
    (
        restore_index_sql("CREATE INDEX i ON t (({a}))", concurrently=False),
        "CREATE INDEX i ON t (({a}))",
    ),
    (
        restore_index_sql(definition("i"), concurrently=True),
        definition("i").replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY"),
    ),
]


@pytest.mark.parametrize(("statement", "text"), TEXTS)
def test_sql(statement: Statement, text: str) -> None:
    assert text_of(statement) == text


def test_nothing_cascades() -> None:
    assert not [text for statement, _ in TEXTS if "CASCADE" in (text := text_of(statement))]


def test_only_the_statement_becomes_concurrent() -> None:
    odd = 'CREATE INDEX "CREATE INDEX x" ON t USING hnsw (e)'
    concurrent = text_of(restore_index_sql(odd, concurrently=True))
    assert concurrent == 'CREATE INDEX CONCURRENTLY "CREATE INDEX x" ON t USING hnsw (e)'
