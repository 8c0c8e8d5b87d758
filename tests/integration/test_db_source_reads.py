"""What a source of rows reads, and whether its ids find their rows again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from campaigns import execute, make_playbook, open_session, reseed_queue, rows, table_facts, value

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
    "bit(12)": "n::bit(12)",
    "bpchar": "'ab' || n || '  '",
    "short": "'ab' || n",
    "mood": "CASE n WHEN 1 THEN 'a ''quoted'', one' ELSE 'plain ' || n END",
    "pair": "ROW(n, 'a, \"b\" ' || n)",
    "pair_domain": "ROW(n, 'c' || n)",
    "numrange": "numrange(n, n + 1)",
}
KINDS = (
    "CREATE DOMAIN short AS char(6) CHECK (VALUE <> '')",
    "CREATE TYPE mood AS ENUM ('a ''quoted'', one', 'plain 2', 'plain 3', 'plain 4', 'plain 5')",
    "CREATE TYPE pair AS (n int, word text)",
    "CREATE DOMAIN pair_domain AS pair",
)


def test_ids_of_many_types_find_their_rows(connection: Connection, dsn: str) -> None:
    settings: tuple[str, ...] = (
        "TimeZone = 'Asia/Kathmandu'",
        "extra_float_digits = -10",
        "IntervalStyle = 'sql_standard'",
    )
    settings += ("extra_float_digits = -10", "bytea_output = 'escape'", "lc_monetary = 'C.UTF-8'")
    execute(dsn, *KINDS)
    for number, (kind, made) in enumerate(IDS.items()):
        execute(
            dsn,
            f"CREATE TABLE t{number} AS SELECT ({made})::{kind} AS id, 'x' AS content"
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


REFUSED = {
    "SELECT clock_timestamp(), 'x'": "gives no row",
    "SELECT gen_random_uuid(), 'x'": "gives no row",
    "SELECT ARRAY['a', 'b'], 'x'": "operator does not exist",
    "SELECT row(n, 2), 'x' FROM generate_series(1, 3) n": "input of anonymous composite types is not implemented",
    # The same ids each time, for other rows.
    "SELECT row_number() OVER (ORDER BY random()), n::text FROM generate_series(1, 500) n": "another text each",
    "SELECT n % 3, n::text FROM generate_series(1, 10) n": "only 3 different ids (e.g. '1' 4 times, '0' 3 times",
    "SELECT nullif(n, 2), n::text FROM generate_series(1, 3) n": "gives 1 of 3 rows no id (NULL)",
    "SELECT repeat('x', 41) || n, 'x' FROM generate_series(1, 3) n": "ids of up to 42 characters",
    "SELECT '{}'::json, 'x'": "could not identify an ordering operator",
}


def test_ids_that_stand_for_no_row_are_refused_before_anything_changes(session: Session, dsn: str) -> None:
    """By the plan, and by `ragops queue reseed` alone, with `--append` and without."""
    execute(dsn, "ALTER TABLE files_queue ALTER file_path TYPE varchar(40)")
    for number, (query, said) in enumerate(REFUSED.items()):
        asked = session.with_playbook(playbook(Source(query=query), "files_queue"))
        for act in (campaign.plan_campaign, partial(reseed_queue, append=number % 2 == 0)):
            with pytest.raises(PlanRefused) as caught:
                act(asked)
            assert said in str(caught.value.actual), query
    with pytest.raises(PlanRefused, match="source cannot be read"):
        campaign.plan_campaign(session.with_playbook(playbook(Source(table="absent"), "files_queue")))
    assert value(dsn, "SELECT count(*) FROM files_queue") == 0


def test_a_unique_index_spares_the_sort_and_nothing_else_does(connection: Connection, dsn: str) -> None:
    execute(
        dsn,
        "CREATE TABLE plain (id int, content text)",
        "CREATE TABLE keyed (id int PRIMARY KEY, content text)",
        "CREATE TABLE partly (id int, content text)",
        "CREATE UNIQUE INDEX ON partly (id) WHERE id > 0",
        "CREATE TABLE later (id int UNIQUE DEFERRABLE, content text)",
        "CREATE TABLE parent (id int PRIMARY KEY, content text)",
        "CREATE TABLE child () INHERITS (parent)",
        "CREATE TABLE parts (id int PRIMARY KEY, content text) PARTITION BY HASH (id)",
        "CREATE TABLE part PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "INSERT INTO parent VALUES (1, 'a')",
        "INSERT INTO child VALUES (1, 'b')",
        'CREATE TABLE "Quoted" ("Id" int PRIMARY KEY, content text)',
    )
    found = {
        name: read_source(connection, Source(table=name), ())
        for name in ("plain", "keyed", "partly", "later", "parent", "parts")
    }
    assert [name for name, facts in found.items() if facts.is_unique] == ["keyed", "parts"]
    assert (found["parent"].with_id, found["parent"].distinct) == (2, 1)
    assert read_source(connection, Source(table='"Quoted"', id_column="Id"), ()).is_unique


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
