"""Vector indexes of rows that stay, on a real server: dropped, restored, and copied for a second column."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from campaigns import execute, open_session, reported, rows, single, value

from ragops.campaign.steps.drop_indexes import drop
from ragops.campaign.steps.rebuild_indexes import RebuildResult, rebuild
from ragops.indexes.concerned import droppable_indexes
from ragops.indexes.pairs import index_pairs
from ragops.playbook import Playbook
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.cutover_columns import index_renames
from ragops.postgres.index_rates import measure_rates
from ragops.session import Session

REBUILD = RebuildIndexes(step="rebuild_indexes")
CONCURRENTLY = RebuildIndexes(step="rebuild_indexes", concurrently=True)
STEPS = [{"step": "select_rows"}, {"step": "embed"}, {"step": "rebuild_indexes"}]
BESIDE = [{"step": "add_column"}, {"step": "capture_writes"}, *STEPS]
DEFINITIONS = (
    "SELECT indexname, indexdef, tablespace, obj_description((quote_ident(schemaname) || '.' || "
    "quote_ident(indexname))::regclass, 'pg_class') FROM pg_indexes WHERE indexdef ~ 'hnsw|ivfflat' ORDER BY 1"
)
COPIED = ("Half %", "bits", "lists", "other", "part", "plain", "waiting")
VALID = (
    "SELECT c.relname, x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid "
    "JOIN pg_am a ON a.oid = c.relam WHERE a.amname IN ('hnsw', 'ivfflat') ORDER BY 1"
)


def playbook(*targets: dict[str, Any], steps: list[dict[str, Any]] | None = None) -> Playbook:
    beside = any(target.get("write") == "beside" for target in targets)
    chosen = steps or (BESIDE if beside else STEPS)
    return Playbook.model_validate({"version": 1, "name": "rows", "targets": targets, "steps": tuple(chosen)})


def articles(**more: Any) -> dict[str, Any]:
    return {"table": "articles", "text": "{body}", "embedding": "embedding", **more}


@contextmanager
def session_on(dsn: str, *targets: dict[str, Any]) -> Iterator[Session]:
    with open_session(dsn, playbook(*targets)) as opened:
        yield opened


@pytest.fixture
def table(dsn18: str) -> str:
    """300 articles with two vector columns, of which one is indexed in five ways and the other in one."""
    execute(
        dsn18,
        "CREATE TABLE articles (id bigint PRIMARY KEY, body text NOT NULL, lang text, embedding vector(8),"
        " title vector(8))",
        "INSERT INTO articles SELECT n, 'text ' || n, CASE WHEN n % 2 = 0 THEN 'de' ELSE 'en' END, v, v FROM"
        " (SELECT n, ARRAY(SELECT sin(n * k) FROM generate_series(1, 8) k)::vector(8) AS v"
        "    FROM generate_series(1, 300) n) rows",
        "CREATE INDEX plain ON articles USING hnsw (embedding vector_cosine_ops) WITH (m=5, ef_construction=33)",
        "COMMENT ON INDEX plain IS 'what search uses'",
        'CREATE INDEX "Half %" ON articles USING hnsw ((embedding::halfvec(8)) halfvec_ip_ops)',
        "CREATE INDEX part ON articles USING hnsw (embedding vector_l2_ops)"
        " WHERE lang = 'de' AND embedding IS NOT NULL",
        "CREATE INDEX lists ON articles USING ivfflat (embedding) WITH (lists=3)",
        "CREATE INDEX bits ON articles USING hnsw ((binary_quantize(embedding)::bit(8)) bit_hamming_ops)"
        " WHERE title IS NOT NULL",
        "CREATE INDEX other ON articles USING hnsw ((title::halfvec(8)) halfvec_cosine_ops)"
        " WHERE embedding IS NOT NULL",
        "CREATE UNIQUE INDEX waiting ON articles (id) WHERE embedding IS NULL",
    )
    return dsn18


@pytest.fixture
def partitioned(dsn18: str) -> str:
    """Messages by year with an index over all, and one over 2025 alone."""
    execute(
        dsn18,
        "CREATE TABLE messages (id bigint, year int, body text, embedding vector(8), PRIMARY KEY (id, year))"
        " PARTITION BY LIST (year)",
        "CREATE TABLE messages_2024 PARTITION OF messages FOR VALUES IN (2024)",
        "CREATE TABLE messages_2025 PARTITION OF messages FOR VALUES IN (2025)",
        "INSERT INTO messages SELECT n, 2024 + n % 2, 'text ' || n, ARRAY(SELECT sin(n * k) FROM"
        " generate_series(1, 8) k)::vector(8) FROM generate_series(1, 100) n",
        "CREATE INDEX messages_hnsw ON messages USING hnsw (embedding vector_cosine_ops)",
        "CREATE INDEX newest ON messages_2025 USING hnsw (embedding vector_l2_ops)",
    )
    return dsn18


def built(result: RebuildResult) -> list[str]:
    return [index.build.name for index in result.indexes]


def exchanged(session: Session) -> dict[str, str]:
    """The indexes that a cutover would give the other's name; none is left alone."""
    (target,) = session.targets()
    pairs, alone = index_renames(
        session.connection,
        target.table,
        name=target.embedding,
        second=target.filled,
        ending="_old",
        known={},
    )
    assert alone == []
    return {pair.name: pair.second for pair in pairs}


def test_indexes_over_the_written_column_are_dropped_and_come_back_as_they_were(table: str) -> None:
    before = rows(table, DEFINITIONS)
    with session_on(table, articles(embedding="title")) as session:
        assert [index.name for index in droppable_indexes(session.facts(), session.targets())] == ["other"]
    with session_on(table, articles()) as session:
        assert sorted(drop(single(session)).dropped) == ["Half %", "bits", "lists", "part", "plain"]
        assert [row[0] for row in rows(table, DEFINITIONS)] == ["other"]
        assert len(built(rebuild(single(session), REBUILD))) == 5
    assert rows(table, DEFINITIONS) == before


def test_the_index_of_a_partitioned_table_comes_back_valid(partitioned: str) -> None:
    before = rows(partitioned, DEFINITIONS)
    target = {"table": "messages", "text": "{body}"}
    with session_on(partitioned, target) as session:
        drop(single(session))
        assert rows(partitioned, DEFINITIONS) == []
        rebuild(single(session), CONCURRENTLY)
    assert rows(partitioned, DEFINITIONS) == before
    assert all(is_valid for _, is_valid in rows(partitioned, VALID))


def test_a_second_column_gets_the_same_indexes_of_its_own_type(table: str) -> None:
    execute(
        table,
        "ALTER TABLE articles ADD COLUMN embedding_new halfvec(12)",
        "UPDATE articles SET embedding_new = ARRAY(SELECT sin(id * k) FROM generate_series(1, 12) k)::halfvec(12)",
    )
    before = rows(table, DEFINITIONS)
    with session_on(table, articles(write="beside", type="halfvec")) as session:
        made = rebuild(single(session), REBUILD)
        assert sorted(built(made)) == [f"{name}_new" for name in COPIED]
        assert all(index.build.concurrently for index in made.indexes)
        assert built(rebuild(single(session), REBUILD)) == []
        (target,) = session.targets()
        pairs = {old.name: new.name if new else None for old, new in index_pairs(target)}
        renames = exchanged(session)
    after = {name: (definition, comment) for name, definition, _, comment in rows(table, DEFINITIONS)}
    table_name = "public.articles"
    assert {name: after[name] for name in after if name.endswith("_new")} == {
        "plain_new": (
            f"CREATE INDEX plain_new ON {table_name} USING hnsw (embedding_new halfvec_cosine_ops)"
            " WITH (m='5', ef_construction='33')",
            "what search uses",
        ),
        "Half %_new": (
            f'CREATE INDEX "Half %_new" ON {table_name} USING hnsw (embedding_new halfvec_ip_ops)',
            None,
        ),
        "part_new": (
            f"CREATE INDEX part_new ON {table_name} USING hnsw (embedding_new halfvec_l2_ops)"
            " WHERE ((lang = 'de'::text) AND (embedding_new IS NOT NULL))",
            None,
        ),
        "other_new": (
            f"CREATE INDEX other_new ON {table_name} USING hnsw (((title)::halfvec(8)) halfvec_cosine_ops)"
            " WHERE (embedding_new IS NOT NULL)",
            None,
        ),
        "lists_new": (
            f"CREATE INDEX lists_new ON {table_name} USING ivfflat (embedding_new halfvec_l2_ops)"
            " WITH (lists='3')",
            None,
        ),
        "bits_new": (
            f"CREATE INDEX bits_new ON {table_name} USING hnsw (((binary_quantize(embedding_new))::bit(12))"
            " bit_hamming_ops) WHERE (title IS NOT NULL)",
            None,
        ),
    }
    assert [row for row in rows(table, DEFINITIONS) if not row[0].endswith("_new")] == before
    assert pairs == renames == {name: f"{name}_new" for name in COPIED}
    assert value(table, "SELECT pg_get_indexdef('waiting_new'::regclass)") == (
        "CREATE UNIQUE INDEX waiting_new ON public.articles USING btree (id) WHERE (embedding_new IS NULL)"
    )


def test_a_second_column_of_a_partitioned_table_gets_the_indexes_of_every_partition(partitioned: str) -> None:
    execute(
        partitioned,
        "ALTER TABLE messages ADD COLUMN embedding_new vector(4)",
        "UPDATE messages SET embedding_new = ARRAY(SELECT sin(id * k) FROM generate_series(1, 4) k)::vector(4)",
    )
    target = {"table": "messages", "text": "{body}", "write": "beside"}
    with session_on(partitioned, target) as session:
        made = rebuild(single(session), REBUILD)
        assert [(index.build.name, index.build.concurrently) for index in made.indexes] == [
            ("messages_2024_embedding_idx_new", True),
            ("messages_2025_embedding_idx_new", True),
            ("messages_hnsw_new", False),
            ("newest_new", True),
        ]
        (facts,) = session.targets()
        assert len(exchanged(session)) == 4
    assert all(is_valid for _, is_valid in rows(partitioned, VALID))
    attached = (
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'messages_hnsw_new'::regclass"
        " ORDER BY 1"
    )
    assert [row[0] for row in rows(partitioned, attached)] == [
        "messages_2024_embedding_idx_new",
        "messages_2025_embedding_idx_new",
    ]
    assert [new.name if new else None for _, new in index_pairs(facts)] == [
        "messages_2024_embedding_idx_new",
        "messages_2025_embedding_idx_new",
        "messages_hnsw_new",
        "newest_new",
    ]


def test_what_an_interrupted_build_of_a_copy_left_is_replaced(table: str) -> None:
    execute(
        table,
        "ALTER TABLE articles ADD COLUMN embedding_new vector(4)",
        "UPDATE articles SET embedding_new = ARRAY[id::int, 1, 2, 3]::vector(4)",
    )
    with psycopg.connect(table, autocommit=True) as builder, psycopg.connect(table) as writer:
        writer.execute("UPDATE articles SET lang = 'fr' WHERE id = 1")
        builder.execute("SET lock_timeout = '300ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            builder.execute(
                "CREATE INDEX CONCURRENTLY plain_new ON articles USING hnsw (embedding_new vector_cosine_ops)"
                " WITH (m=5, ef_construction=33)"
            )
    with session_on(table, articles(write="beside")) as session:
        (facts,) = session.targets()
        assert {old.name: new for old, new in index_pairs(facts)}["plain"] is None
        rebuild(single(session), REBUILD)
        assert "index plain_new is invalid" in reported(session)
    assert all(is_valid for _, is_valid in rows(table, VALID))


def test_what_an_interrupted_reindex_left_is_not_built(table: str) -> None:
    execute(
        table,
        "CREATE INDEX lists_ccnew ON articles USING ivfflat (embedding) WITH (lists=3)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'lists_ccnew'::regclass",
    )
    with session_on(table, articles()) as session:
        assert built(rebuild(single(session), REBUILD)) == []


def test_names_stay_unique_and_short_enough(dsn18: str) -> None:
    long = "ü" * 31
    execute(
        dsn18,
        "CREATE TABLE articles (id bigint PRIMARY KEY, body text, embedding vector(3), embedding_new vector(3))",
        f"CREATE INDEX {long}a ON articles USING hnsw (embedding vector_l2_ops)",
        f"CREATE INDEX {long}b ON articles USING hnsw (embedding vector_ip_ops)",
        "CREATE INDEX short ON articles USING hnsw (embedding vector_l1_ops)",
        # Another index has this name already.
        "CREATE INDEX short_new ON articles USING hnsw ((embedding::halfvec(3)) halfvec_l1_ops)",
    )
    with session_on(dsn18, articles(write="beside")) as session:
        names = built(rebuild(single(session), REBUILD))
        assert built(rebuild(single(session), REBUILD)) == []
    assert len(names) == len(set(names)) == 4
    assert all(len(name.encode()) <= 63 for name in names)
    assert value(dsn18, "SELECT count(*) FROM pg_index x WHERE indrelid = 'articles'::regclass") == 9


def test_rates_are_measured_and_nothing_changes(partitioned: str) -> None:
    before = rows(partitioned, "SELECT tableoid, ctid, xmin::text, * FROM messages ORDER BY id")
    with session_on(partitioned, {"table": "messages", "text": "{body}"}) as session:
        (facts,) = session.targets()
        own = [index for index in facts.table.indexes if not index.is_attached]
        rates = measure_rates(session.connection, facts, own)
        assert rates.reason == ""
        assert rates.updates is not None
        assert rates.builds is not None
        assert rates.updates > 0
        assert rates.builds > 0
        assert rows(partitioned, "SELECT tableoid, ctid, xmin::text, * FROM messages ORDER BY id") == before
        execute(partitioned, "UPDATE messages SET embedding = NULL")
        assert measure_rates(session.connection, facts, own).reason.startswith("too few rows")


def test_rows_that_the_application_holds_are_not_waited_for(partitioned: str) -> None:
    with (
        session_on(partitioned, {"table": "messages", "text": "{body}"}) as session,
        psycopg.connect(partitioned) as application,
    ):
        application.execute("SELECT 1 FROM messages FOR UPDATE")
        (facts,) = session.targets()
        assert measure_rates(session.connection, facts, []).updates is None
