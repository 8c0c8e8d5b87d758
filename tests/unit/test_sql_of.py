"""The SQL of every action, with names that try to get out of their quotes."""

from __future__ import annotations

import pytest
from facts_factory import definition, hnsw, table

from ragops.actions import (
    Action,
    AnalyzeTable,
    ArchiveTable,
    CreateIndex,
    DeleteRows,
    DropIndex,
    RestoreIndex,
    TruncateTables,
    VacuumTable,
)
from ragops.playbook.model import Index
from ragops.postgres.ddl import make_concurrent, sql_text

EVIL = 'x"; DROP TABLE users; --'
QUOTED = '"x""; DROP TABLE users; --"'
DOCUMENTS = table("documents")
ODD = table("documents", schema="my schema", name=EVIL)
COSINE = Index(name="i", table="documents")
TEXTS: list[tuple[Action, str]] = [
    (DropIndex(hnsw("i")), 'DROP INDEX "public"."i"'),
    (DropIndex(hnsw(EVIL, schema="a.b")), f'DROP INDEX "a.b".{QUOTED}'),
    (
        ArchiveTable("documents", DOCUMENTS),
        'CREATE TABLE "ragops"."archive_…_documents" AS TABLE "public"."documents"',
    ),
    (
        ArchiveTable("documents", ODD),
        f'CREATE TABLE "ragops"."archive_…_documents" AS TABLE "my schema".{QUOTED}',
    ),
    (TruncateTables((DOCUMENTS,)), 'TRUNCATE TABLE "public"."documents"'),
    (TruncateTables((DOCUMENTS, ODD)), f'TRUNCATE TABLE "public"."documents", "my schema".{QUOTED}'),
    (DeleteRows(DOCUMENTS), 'DELETE FROM "public"."documents"'),
    (DeleteRows(ODD), f'DELETE FROM "my schema".{QUOTED}'),
    (VacuumTable(DOCUMENTS), 'VACUUM "public"."documents"'),
    (VacuumTable(ODD), f'VACUUM "my schema".{QUOTED}'),
    (AnalyzeTable(ODD), f'ANALYZE "my schema".{QUOTED}'),
    (
        CreateIndex(COSINE, DOCUMENTS, "embedding"),
        'CREATE INDEX "i" ON "public"."documents" USING hnsw ("embedding" "vector_cosine_ops") '
        "WITH (m = 16, ef_construction = 64)",
    ),
    (
        CreateIndex(Index(name=EVIL, table="documents", metric="l2", m=8, ef_construction=40), ODD, EVIL, True),
        f'CREATE INDEX CONCURRENTLY {QUOTED} ON "my schema".{QUOTED} USING hnsw ({QUOTED} "vector_l2_ops") '
        "WITH (m = 8, ef_construction = 40)",
    ),
    (
        CreateIndex(Index(name="{m} %s", table="documents", metric="ip"), DOCUMENTS, "{ops}"),
        'CREATE INDEX "{m} %s" ON "public"."documents" USING hnsw ("{ops}" "vector_ip_ops") '
        "WITH (m = 16, ef_construction = 64)",
    ),
    (RestoreIndex("i", DOCUMENTS, definition("i")), definition("i")),
    (RestoreIndex("i", DOCUMENTS, "CREATE INDEX i ON t (({a}))"), "CREATE INDEX i ON t (({a}))"),
    (
        RestoreIndex("i", DOCUMENTS, definition("i"), True),
        definition("i").replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY"),
    ),
]


@pytest.mark.parametrize(("action", "text"), TEXTS)
def test_sql(action: Action, text: str) -> None:
    assert sql_text(action) == text


def test_nothing_cascades() -> None:
    assert not [text for action, _ in TEXTS if "CASCADE" in (text := sql_text(action))]


def test_only_the_statement_becomes_concurrent() -> None:
    odd = 'CREATE INDEX "CREATE INDEX x" ON t USING hnsw (e)'
    assert make_concurrent(odd) == 'CREATE INDEX CONCURRENTLY "CREATE INDEX x" ON t USING hnsw (e)'
