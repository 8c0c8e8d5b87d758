"""What a source of rows reads, and whether its ids find their rows again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from campaigns import execute, make_playbook, open_session, reseed_queue, rows, table_facts

from ragops.campaign import run as campaign
from ragops.campaign.sources_at_risk import sources_at_risk
from ragops.errors import PlanRefused
from ragops.playbook import Playbook
from ragops.playbook.model import Source
from ragops.playbook.steps import DropIndexes, EmptyTable, EmptyTables, ReseedQueue
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection
from ragops.postgres.ledger import find_latest_campaign
from ragops.postgres.row_source import read_source
from ragops.session import Session

MADE = (
    "CREATE SCHEMA other",
    "CREATE TABLE other.documents (id bigint PRIMARY KEY, content text)",
    'CREATE TABLE "Odd.Name" (id bigint PRIMARY KEY, content text)',
    "CREATE VIEW one AS SELECT id, content FROM documents",
    "CREATE MATERIALIZED VIEW two AS SELECT * FROM one",
    "CREATE VIEW three AS SELECT id, upper(content) AS content FROM two",
    "CREATE FUNCTION inlined() RETURNS SETOF documents STABLE LANGUAGE sql AS 'SELECT * FROM documents'",
    "CREATE FUNCTION atomic(n bigint) RETURNS text LANGUAGE sql BEGIN ATOMIC"
    " SELECT content FROM documents WHERE id = n; END",
    "CREATE FUNCTION quoted(n bigint) RETURNS text LANGUAGE plpgsql AS"
    " $$ BEGIN RETURN (SELECT content FROM public.documents WHERE id = n); END $$",
    "CREATE FUNCTION harmless(n bigint) RETURNS text LANGUAGE plpgsql AS"
    " $$ BEGIN RETURN 'my_documents ' || n; END $$",
    "CREATE TABLE tree (id bigint, content text) PARTITION BY RANGE (id)",
    "CREATE TABLE leaf PARTITION OF tree FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE sibling PARTITION OF tree FOR VALUES FROM (100) TO (200)",
    "CREATE TABLE heir () INHERITS (documents)",
)
READERS = {
    "SELECT id, content FROM documents": "public.documents",
    "SELECT id, content FROM pg_catalog.pg_class, public.documents": "public.documents",
    "SELECT id, content FROM one": "public.one",
    "SELECT id, content FROM three": "public.three",
    "SELECT id, content FROM inlined()": "inlined()",
    "SELECT n, atomic(n) FROM generate_series(1, 3) n": "atomic(bigint)",
    "SELECT n, quoted(n) FROM generate_series(1, 3) n": "quoted(bigint)",
    "WITH unused AS (SELECT * FROM documents) SELECT 1, 'a'": "public.documents",
    "SELECT n, (SELECT max(content) FROM documents) FROM generate_series(1, 3) n": "public.documents",
    "SELECT id, content FROM other.documents UNION ALL SELECT id, content FROM documents WHERE false": (
        "public.documents"
    ),
    "SELECT id, content FROM heir": "public.heir",
    "SELECT id, content FROM other.documents": None,
    'SELECT id, content FROM "Odd.Name"': None,
    "SELECT n, harmless(n) FROM generate_series(1, 3) n": None,
    "SELECT id, content FROM tree": None,
}


def test_every_way_to_read_a_table_is_seen(connection: Connection, dsn: str) -> None:
    execute(dsn, *MADE)
    documents = table_facts(connection)["documents"]
    for query, via in READERS.items():
        found = read_source(connection, Source(query=query.replace("1, 'a'", "1 AS id, 'a' AS t")), [documents])
        assert found.reads == ({documents.oid: via} if via else {}), query
    for table, via in (("documents", "public.documents"), ("public.one", "public.one"), ("other.documents", None)):
        assert read_source(connection, Source(table=table), [documents]).reads.get(documents.oid) == via
    connection.execute("SET search_path = other, public")
    assert read_source(connection, Source(table="documents"), [documents]).reads == {}
    # Nothing is left behind.
    assert rows(dsn, "SELECT 1 FROM pg_class WHERE relname = 'ragops_source_reads'") == []


def test_partitions_and_their_parent(connection: Connection, dsn: str) -> None:
    execute(dsn, *MADE)
    (tree, leaf) = (
        table_facts(connection, Tables.model_validate({"documents": {"table": name}}))["documents"]
        for name in ("tree", "leaf")
    )
    reads = {
        name: set(read_source(connection, Source(table=name), [tree, leaf]).reads) for name in ("tree", "leaf")
    }
    assert reads == {"tree": {tree.oid, leaf.oid}, "leaf": {tree.oid, leaf.oid}}
    # Emptying a partition leaves its siblings alone.
    assert set(read_source(connection, Source(table="sibling"), [tree, leaf]).reads) == {tree.oid}


def test_a_role_without_temporary_objects_still_sees_what_the_plan_shows(connection: Connection, dsn: str) -> None:
    execute(dsn, *MADE)
    documents = table_facts(connection)["documents"]
    connection.execute("SET default_transaction_read_only = on")
    assert read_source(connection, Source(table="three"), [documents]).reads == {documents.oid: "public.two"}


def playbook(source: Source, *emptied: str) -> Playbook:
    tables = tuple(EmptyTable.model_validate({"table": name}) for name in emptied)
    steps = (
        DropIndexes(step="drop_indexes"),
        EmptyTables(step="empty_tables", tables=tables),
        ReseedQueue(step="reseed_queue"),
    )
    return make_playbook(source=source, steps=steps)


@pytest.fixture
def session(dsn: str) -> Iterator[Session]:
    execute(dsn, "INSERT INTO documents (content) SELECT 'text ' || n FROM generate_series(1, 9) n")
    with open_session(dsn, make_playbook()) as opened:
        yield opened


def test_every_emptied_table_counts_and_no_other(session: Session, dsn: str) -> None:
    execute(dsn, "INSERT INTO document_chunks SELECT id, 0, content FROM documents")
    chunks = Source(query="SELECT document_id, content FROM document_chunks")
    refused = session.with_playbook(playbook(chunks, "documents", "document_chunks", "files_queue"))
    with pytest.raises(PlanRefused) as caught:
        campaign.plan_campaign(refused)
    (problem,) = caught.value.problems
    assert problem.what.startswith("source.query reads public.document_chunks, which empty_tables empties")
    execute(dsn, problem.cure)
    assert rows(dsn, "SELECT count(*) FROM document_chunks_texts WHERE id IS NOT NULL AND text LIKE 'text%'") == [
        (9,)
    ]
    campaign.plan_campaign(session.with_playbook(playbook(Source(table="documents"), "files_queue")))


IDS = {
    "char(8)": "'ab' || n",
    "varchar(9)": "'ab ' || n",
    "numeric": "n / 3.0",
    "float8": "n / 3.0",
    "real": "n / 3.0",
    "timestamptz": "'2026-03-29 00:30Z'::timestamptz + n * interval '17 min 0.000001 s'",
    "date": "'2026-01-12'::date + n",
    "interval": "n * interval '1 mon -3 d 1.5 s'",
    "bytea": "decode('00ff' || lpad(n::text, 2, '0'), 'hex')",
    "money": "(n * 1000.5)::numeric::money",
    "uuid": "gen_random_uuid()",
    "inet": "'10.0.0.0'::inet + n",
    "jsonb": "jsonb_build_object('n', n)",
    "boolean": "n > 1",
}


def test_ids_of_many_types_find_their_rows(connection: Connection, dsn: str) -> None:
    settings: tuple[str, ...] = (
        "TimeZone = 'Asia/Kathmandu'",
        "extra_float_digits = -10",
        "IntervalStyle = 'sql_standard'",
    )
    settings += ("extra_float_digits = -10", "bytea_output = 'escape'", "lc_monetary = 'C.UTF-8'")
    for number, (kind, value) in enumerate(IDS.items()):
        execute(
            dsn,
            f"CREATE TABLE t{number} AS SELECT ({value})::{kind} AS id, 'x' AS content"
            f" FROM generate_series(1, {2 if kind == 'boolean' else 5}) n",
        )
        found = []
        for setting in (settings, ()):
            connection.execute("RESET ALL")
            for line in setting:
                connection.execute(f"SET {line}".encode())
            facts = read_source(connection, Source(table=f"t{number}"), ())
            assert (facts.rows, facts.with_id, facts.lost) == (facts.distinct, facts.distinct, None), kind
            found.append(facts)
        assert found[0].distinct == found[1].distinct


def test_an_id_that_does_not_read_back_is_refused(session: Session, dsn: str) -> None:
    execute(
        dsn,
        "CREATE VIEW moving AS SELECT clock_timestamp() AS id, 'x' AS content",
        "CREATE TABLE lists AS SELECT ARRAY['a', 'b'] AS id, 'x' AS content",
        "CREATE TABLE documents_of_json AS SELECT '{}'::json AS id, 'x' AS content",
    )
    for table, said in (("moving", "gives no row: its text would be lost"), ("lists", "operator does not exist")):
        with pytest.raises(PlanRefused) as caught:
            campaign.plan_campaign(session.with_playbook(playbook(Source(table=table), "files_queue")))
        assert said in str(caught.value.actual)
    for table in ("absent", "documents_of_json"):
        with pytest.raises(PlanRefused, match="source cannot be read"):
            campaign.plan_campaign(session.with_playbook(playbook(Source(table=table), "files_queue")))


def test_a_single_command_spares_what_the_queue_was_filled_from(session: Session, dsn: str) -> None:
    """The playbook names no source; the queue's items are rows of documents, or an unfinished campaign's are."""
    emptied = EmptyTables(step="empty_tables", tables=(EmptyTable(table="documents"),))

    def at_risk() -> list[str]:
        row = find_latest_campaign(session.connection, Tables())
        return [problem.what for problem in sources_at_risk(session, session.facts(), emptied, row)]

    assert at_risk() == []
    filled = session.with_playbook(make_playbook(source=Source(query="SELECT id, content FROM public.documents")))
    reseed_queue(filled)
    (what,) = at_risk()
    assert what.startswith("source.query reads public.documents, which empty_tables empties")
    execute(dsn, "DELETE FROM ragops.source")
    assert at_risk() == []
    stored = '{"source": {"table": "documents"}}'
    execute(
        dsn,
        f"INSERT INTO ragops.campaign (name, playbook, plan, status) VALUES ('c', '{stored}', '{{}}', 'stopped')",
    )
    (what,) = at_risk()
    assert what.startswith("source.table reads public.documents")
    execute(dsn, "UPDATE ragops.campaign SET status = 'done'")
    assert at_risk() == []
