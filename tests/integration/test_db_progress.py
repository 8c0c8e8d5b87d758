"""Progress on a real server: counted in time, else estimated from the planner's statistics and marked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from campaigns import execute, make_playbook, open_session, table_facts
from psycopg import sql

from ragops import status
from ragops.playbook.tables import DocumentsColumns, DocumentsTable, QueueColumns, QueueTable, Tables
from ragops.postgres import progress as progress_module
from ragops.postgres.catalog import Rows, read_database
from ragops.postgres.connection import Connection
from ragops.postgres.progress import Counter, Progress, column_statistics, estimated_rows
from ragops.status import read_status

FILL = (
    "INSERT INTO documents (content, embedding)"
    " SELECT 'text ' || i, CASE WHEN i % 4 > 0 THEN array_fill(i, ARRAY[32])::vector END"
    " FROM generate_series(1, {n}) i",
    "INSERT INTO parsed_files (file_id) SELECT i / 2 FROM generate_series(1, {n}) i",
    "INSERT INTO files_queue (file_path, status) SELECT i || '.txt', CASE WHEN i % 10 = 0 THEN 'failed'"
    " WHEN i % 2 = 0 THEN 'completed' ELSE 'pending' END FROM generate_series(1, {n}) i",
)
SLOW = sql.SQL("SELECT pg_sleep(60)")
ONE = sql.SQL("SELECT 1")


def fill(dsn: str, rows: int) -> None:
    execute(dsn, *(text.format(n=rows) for text in FILL))


def read_counts(connection: Connection, counter: Counter, tables: Tables | None = None) -> dict[str, Any]:
    facts = table_facts(connection, tables)
    progress = Progress(connection, tables or Tables(), counter=counter)
    queue = progress.queue(facts["files_queue"])
    parsed_files = progress.parsed_files(facts.get("parsed_files"))
    documents = progress.documents(facts["documents"]).to_json()
    assert documents.pop("bytes") == facts["documents"].bytes
    return {
        "queue": queue.to_json(),
        "queue_estimated": queue.is_estimated,
        "parsed_files": parsed_files.to_json(),
        "documents": documents,
    }


class IndexedOnly(Counter):
    """A server that is too slow for any scan of a whole table."""

    def count(self, query: sql.Composed, *, share: float, table: Any = None) -> Any:
        return None if table is not None else super().count(query, share=share)


def no_time(connection: Connection) -> Counter:
    return Counter(connection, budget_s=0)


def test_what_can_be_counted_in_time_is_exact(dsn: str, connection: Connection) -> None:
    fill(dsn, 40)
    exact = {
        "queue": {"pending": 20, "processing": 0, "completed": 16, "failed": 4},
        "queue_estimated": False,
        "parsed_files": {"total": 40, "unique_files": 21, "estimated": False},
        "documents": {"total": 40, "with_embedding": 30, "estimated": False},
    }
    assert read_counts(connection, Counter(connection, budget_s=60)) == exact
    assert read_counts(connection, Counter(connection, budget_s=None)) == exact


def test_without_time_the_statistics_answer(dsn: str, connection: Connection) -> None:
    fill(dsn, 1000)
    execute(dsn, "ANALYZE")
    assert read_counts(connection, no_time(connection)) == {
        "queue": {"pending": 500, "processing": 0, "completed": 400, "failed": 100},
        "queue_estimated": True,
        "parsed_files": {"total": 1000, "unique_files": 501, "estimated": True},
        "documents": {"total": 1000, "with_embedding": 750, "estimated": True},
    }


def test_what_was_never_analyzed_is_unknown(dsn: str, connection: Connection) -> None:
    fill(dsn, 40)  # Fewer than autovacuum would analyse.
    assert read_counts(connection, no_time(connection)) == {
        "queue": dict.fromkeys(("pending", "processing", "completed", "failed")),
        "queue_estimated": True,
        "parsed_files": {"total": None, "unique_files": None, "estimated": True},
        "documents": {"total": None, "with_embedding": None, "estimated": True},
    }


def test_a_column_without_statistics_is_unknown_beside_a_known_table(dsn: str, connection: Connection) -> None:
    fill(dsn, 40)
    execute(dsn, "ANALYZE documents (id)", "ANALYZE files_queue (id)")
    counts = read_counts(connection, no_time(connection))
    assert counts["documents"] == {"total": 40, "with_embedding": None, "estimated": True}
    assert set(counts["queue"].values()) == {None}


def test_empty_tables_need_no_statistics(connection: Connection) -> None:
    counts = read_counts(connection, no_time(connection))
    assert counts["queue"] == {"pending": 0, "processing": 0, "completed": 0, "failed": 0}
    assert counts["documents"]["total"] == counts["parsed_files"]["total"] == 0


def test_a_table_that_was_analyzed_empty_and_filled_since_is_unknown(dsn: str, connection: Connection) -> None:
    execute(dsn, "ANALYZE documents")
    fill(dsn, 40)
    assert estimated_rows(connection, table_facts(connection)["documents"]) is None


def test_an_estimate_grows_with_the_table(dsn: str, connection: Connection) -> None:
    fill(dsn, 2000)
    execute(dsn, "ANALYZE documents", "ALTER TABLE documents SET (autovacuum_enabled = off)")
    fill(dsn, 2000)
    rows = estimated_rows(connection, table_facts(connection)["documents"])
    assert rows is not None
    assert abs(rows - 4000) < 100


def test_open_items_are_counted_where_the_rest_is_not(dsn: str, connection: Connection) -> None:
    fill(dsn, 1000)
    execute(
        dsn,
        "ALTER TABLE files_queue SET (autovacuum_enabled = off, fillfactor = 10)",
        "ANALYZE files_queue",
        # Changes since then, which the statistics do not include.
        "UPDATE files_queue SET status = 'processing', lease_until = now() WHERE id IN (1, 3, 5)",
    )
    rows = estimated_rows(connection, table_facts(connection)["files_queue"])
    counts = read_counts(connection, IndexedOnly(connection, budget_s=60))
    assert counts["queue_estimated"]
    assert (counts["queue"]["processing"], counts["queue"]["pending"]) == (3, 497)
    assert sum(counts["queue"].values()) == rows


def test_open_items_are_counted_though_nothing_was_analyzed(dsn: str, connection: Connection) -> None:
    fill(dsn, 40)
    queue = read_counts(connection, IndexedOnly(connection, budget_s=60))["queue"]
    assert queue == {"pending": 20, "processing": 0, "completed": None, "failed": None}


def test_a_statement_that_takes_too_long_ends_and_leaves_no_setting(connection: Connection) -> None:
    before = connection.execute("SHOW statement_timeout").fetchone()
    assert Counter(connection, budget_s=0.1).count(SLOW.format(), share=1) is None
    assert connection.execute("SHOW statement_timeout").fetchone() == before
    assert connection.execute("SHOW transaction_read_only").fetchone() == ("off",)


def test_the_time_may_run_out_at_the_commit(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def cancelled_at_its_end(connection: Connection, *, settings: dict[str, str]) -> Iterator[Connection]:
        connection.execute("BEGIN")
        yield connection
        connection.execute("SET LOCAL statement_timeout = '10ms'")
        connection.execute("SELECT pg_sleep(60)")

    monkeypatch.setattr(progress_module, "transaction", cancelled_at_its_end)
    assert Counter(connection, budget_s=60).count(ONE.format(), share=1) is None
    assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def test_after_a_table_that_took_too_long_no_larger_one_is_tried(dsn: str, connection: Connection) -> None:
    fill(dsn, 1000)
    execute(dsn, "DELETE FROM parsed_files WHERE file_id > 10", "VACUUM ANALYZE")
    facts = table_facts(connection)
    counter = Counter(connection, budget_s=600)
    assert counter.count(SLOW.format(), share=1 / 6000, table=facts["files_queue"]) is None
    assert counter.count(ONE.format(), share=1, table=facts["documents"]) is None
    assert counter.count(ONE.format(), share=1, table=facts["parsed_files"]) == ((1,),)
    assert counter.count(ONE.format(), share=1) == ((1,),)


def test_a_locked_table_is_not_waited_for(dsn: str, connection: Connection) -> None:
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE documents IN ACCESS EXCLUSIVE MODE")
        query = sql.SQL("SELECT count(*) FROM documents").format()
        assert Counter(connection, budget_s=0.1).count(query, share=1) is None


def test_counting_changes_nothing(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        Counter(connection, budget_s=60).count(sql.SQL("DELETE FROM documents").format(), share=1)


def test_an_exact_count_outlasts_a_role_s_limit(dsn: str, connection: Connection) -> None:
    connection.execute("SET statement_timeout = '50ms'")
    slow = sql.SQL("SELECT pg_sleep(0.2)").format()
    assert Counter(connection, budget_s=None).count(slow, share=1) == (("",),)


def test_names_and_types_of_a_user_s_own(dsn: str, connection: Connection) -> None:
    execute(
        dsn,
        'CREATE SCHEMA "Own"',
        "CREATE TYPE \"Own\".state AS ENUM ('pending', 'processing', 'completed', 'failed', 'on hold')",
        'CREATE TABLE "Own"."Do cs" (id int, file_id int, file_path text, body text, metadata jsonb,'
        ' "ve""c %" vector(32) NOT NULL)',
        'CREATE TABLE "Own".todo (id int, file_path text, "St %s" "Own".state, attempts int, phase int2,'
        " claim_id uuid, claimed_by text, lease_until timestamptz, last_error text)",
        'INSERT INTO "Own"."Do cs" SELECT i, i, i, i, NULL, array_fill(1, ARRAY[32])::vector'
        " FROM generate_series(1, 100) i",
        'INSERT INTO "Own".todo SELECT i, i, CASE WHEN i < 90 THEN state_1 ELSE state_2 END'
        " FROM generate_series(1, 100) i, (VALUES ('completed'::\"Own\".state, 'on hold'::\"Own\".state))"
        " AS states (state_1, state_2)",
        "ANALYZE",
    )
    tables = Tables(
        documents=DocumentsTable(table="Own.Do cs", columns=DocumentsColumns(content="body", embedding='ve"c %')),
        files_queue=QueueTable(table="Own.todo", columns=QueueColumns(status="St %s")),
        document_chunks=None,
        parsed_files=None,
        ingestion_metrics=None,
    )
    expected = {
        "queue": {"pending": 0, "processing": 0, "completed": 89, "failed": 0, "on hold": 11},
        "parsed_files": {"total": 0, "unique_files": 0, "estimated": False},
        "documents": {"total": 100, "with_embedding": 100},
    }
    for counter in (Counter(connection, budget_s=60), no_time(connection), IndexedOnly(connection, budget_s=60)):
        counts = read_counts(connection, counter, tables)
        is_estimated = counts.pop("queue_estimated")
        assert counts["documents"].pop("estimated") == is_estimated
        assert counts == expected


def test_the_leaves_of_a_partitioned_table_are_added_up(dsn: str, connection: Connection) -> None:
    execute(
        dsn,
        "CREATE TABLE parts (id int, embedding vector(32)) PARTITION BY RANGE (id)",
        "CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (100) TO (1000)",
        "INSERT INTO parts (id) SELECT i FROM generate_series(1, 400) i",
        "ANALYZE parts",
    )
    tables = Tables(documents=DocumentsTable(table="parts"))
    documents = table_facts(connection, tables)["documents"]
    assert estimated_rows(connection, documents) == 400
    assert column_statistics(connection, documents, "embedding").filled(400) == 0


def test_the_status_says_what_is_estimated_and_exact_counts(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(dsn, 1000)
    execute(dsn, "ANALYZE", "DELETE FROM documents WHERE id = 1")
    monkeypatch.setattr(status, "BUDGET_S", 0)
    with open_session(dsn, make_playbook()) as session:
        facts = session.facts(scans=False)
        estimated: dict[str, Any] = read_status(session, facts).to_json()
        exact: dict[str, Any] = read_status(session, facts, exact=True).to_json()
    for section in ("documents", "parsed_files"):
        assert (estimated[section]["estimated"], exact[section]["estimated"]) == (True, False)
    assert (estimated["queue_estimated"], exact["queue_estimated"]) == (True, False)
    assert (estimated["documents"]["total"], exact["documents"]["total"]) == (1000, 999)
    assert estimated["documents"]["bytes"] == exact["documents"]["bytes"] > 0


def test_facts_of_the_catalog_alone_count_nothing(dsn: str, connection: Connection) -> None:
    fill(dsn, 40)
    execute(dsn, "INSERT INTO ingestion_metrics (documents, milliseconds) VALUES (10, 1000)")
    counted = read_database(connection, Tables(), rows=Rows.ESTIMATED)
    catalog_only = read_database(connection, Tables(), rows=Rows.CATALOG_ONLY)
    assert (counted.docs_per_s, catalog_only.docs_per_s) == (10.0, None)
    assert counted.server.limits is not None and catalog_only.server.limits is None
    before, after = counted.tables["documents"], catalog_only.tables["documents"]
    assert before is not None and after is not None
    # Never analyzed: `ESTIMATED` counts such a table, `CATALOG_ONLY` does not.
    assert (before.rows, after.rows) == (40, 0)
    assert after == replace(before, rows=0)


def test_an_estimate_replaces_the_count_of_an_analyzed_table(dsn: str, connection: Connection) -> None:
    fill(dsn, 1000)
    execute(dsn, "ANALYZE documents", "DELETE FROM documents WHERE id <= 10")
    rows = {}
    for way in Rows:
        table = read_database(connection, Tables(), rows=way).tables["documents"]
        assert table is not None
        rows[way] = table.rows
    assert rows == {Rows.EXACT: 990, Rows.ESTIMATED: 1000, Rows.CATALOG_ONLY: 1000}
