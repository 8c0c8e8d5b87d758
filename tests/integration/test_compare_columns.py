"""The step compare on a real database: two columns, their indexes, and the verdict."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from campaigns import execute, open_session, reported, rows, single
from pooler import PROGRAM, running_pooler
from rich.console import Console
from row_targets import playbook
from tcp_proxy import running_proxy

from ragops.campaign.comparison import INDEX, NDCG, RECALL, CompareResult
from ragops.campaign.steps.compare import CompareStep
from ragops.errors import NegativeVerdict
from ragops.playbook.model import OpenAIReference
from ragops.playbook.steps import Compare
from ragops.postgres.comparison import Columns, matrix
from ragops.quality.retrieval import ExactSearch
from ragops.report.comparison import comparison_screen
from ragops.session import Session

ROWS = 300
WORDS = [*("lock", "table", "index", "query", "vacuum", "page", "tuple", "commit")]
WORDS += [*("buffer", "join", "sort", "hash", "scan", "plan", "cache", "row")]
TEXTS = [" ".join(WORDS[(n * 7 + i * (n % 5 + 1)) % 16] for i in range(6)) + f" number {n}" for n in range(ROWS)]
STEPS = """steps:
  - {step: add_column}
  - {step: capture_writes}
  - {step: select_rows}
  - {step: embed}
  - {step: compare}
"""
PLAIN = 'targets: [{table: notes, text: "{body}", write: beside}]\n'
HALF = """targets:
  - {table: kb.parts, key: [tenant, day], text: "{body}", where: NOT gone, write: beside, type: halfvec}
"""


@pytest.fixture
def session(dsn18: str, tiny_model: Path) -> Iterator[Session]:
    """300 rows: the old column has 16 random dimensions, the new one what the model makes of the texts."""
    execute(
        dsn18,
        "CREATE TABLE notes (id bigint PRIMARY KEY, body text, embedding vector(16), embedding_new vector(32))",
    )
    with open_session(dsn18, playbook(targets=PLAIN, steps=STEPS, model=tiny_model)) as opened:
        fill(opened, "INSERT INTO notes SELECT n, body, {old}, {new} FROM made")
        yield opened


def fill(session: Session, insert: str) -> None:
    """Insert what `made` has: n, body, the old vector and the new one, as arrays."""
    with session.open_embedder() as embedder:
        vectors = embedder.embed(TEXTS).vectors
    connection = session.connection
    with connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE made (n int, body text, new real[]) ON COMMIT DROP")
        for n, (text, vector) in enumerate(zip(TEXTS, vectors, strict=True)):
            connection.execute("INSERT INTO made VALUES (%s, %s, %s)", (n, text, vector.tolist()))
        old = "(SELECT array_agg(sin(made.n * i * 12.9898)) FROM generate_series(1, 16) i)::vector"
        connection.execute(insert.format(old=old, new="new::vector").encode())


def index(
    dsn: str, *columns: str, table: str = "notes", ops: str = "vector_cosine_ops", how: str = "hnsw"
) -> None:
    execute(dsn, *(f"CREATE INDEX {column}_idx ON {table} USING {how} ({column} {ops})" for column in columns))


def compare(session: Session, **settings: object) -> CompareResult:
    return CompareStep(Compare(step="compare", **settings)).run(single(session))  # type: ignore[arg-type]


def test_a_good_index_is_go(session: Session, dsn18: str) -> None:
    index(dsn18, "embedding", "embedding_new")
    result = compare(session, sample=200)
    (one,) = result.targets
    assert (result.verdict, one.queries, one.drawn, one.judged) == ("GO", 200, 200, 0)
    assert (one.old.index, one.new.index) == ("embedding_idx", "embedding_new_idx")
    assert one.new.recall is not None and one.new.recall > 0.97
    assert one.old.queries == "stored vectors of the sampled rows as queries" and one.old.recall is not None
    assert one.old.p50_ms and one.new.p99_ms and one.new.p99_ms >= (one.new.p50_ms or 0) > 0
    # Another space: few neighbours are the same. A row's own words find it.
    assert one.overlap is not None and one.overlap < 0.3
    assert one.within_k is not None and one.within_k > 0.5 and len(one.ranks) == 200
    (criterion,) = one.criteria
    assert criterion.name == RECALL and criterion.loss is not None and criterion.loss.upper <= 0.02
    assert "old side" not in reported(session) and "stored vectors of the sampled rows" in reported(session)
    shown = StringIO()
    Console(file=shown, width=200).print(comparison_screen(json.loads(json.dumps(result.to_json()))))
    assert "GO on 200 queries" in shown.getvalue() and "embedding_new_idx" in shown.getvalue()


def test_a_bad_index_is_no_go_and_says_what_to_type(session: Session, dsn18: str) -> None:
    # One of 30 lists is searched: most neighbours are in the others.
    execute(
        dsn18, "CREATE INDEX new_idx ON notes USING ivfflat (embedding_new vector_cosine_ops) WITH (lists = 30)"
    )
    with pytest.raises(NegativeVerdict) as caught:
        compare(session, sample=100)
    error = caught.value
    assert (error.exit_code, error.what.split()[3]) == (3, "NO-GO;")
    assert "index_recall loses 0." in (error.actual or "") and "at most 0.02" in (error.expected or "")
    assert "ivfflat.probes" in (error.hint or "") and "--max-loss 0." in (error.hint or "")
    # What the hint proposes is enough.
    accepted = float((error.hint or "").split("--max-loss ")[1].split()[0])
    assert compare(session, sample=100, max_loss=accepted).verdict == "GO"
    assert "the server does not use" not in reported(session)


@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")
def test_through_a_transaction_pooler_and_a_short_statement_timeout(
    session: Session, dsn18: str, tiny_model: Path
) -> None:
    index(dsn18, "embedding", "embedding_new")
    limit = "format('ALTER DATABASE %I SET statement_timeout = 2000', current_database())"
    execute(
        dsn18,
        # Every text takes a while to read, so that drawing rows lasts longer than a statement may.
        "CREATE FUNCTION slowly(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN PERFORM pg_sleep(0.01); RETURN $1; END $$",
        f"DO $$ BEGIN EXECUTE {limit}; END $$",
    )
    slow = 'targets: [{table: notes, sql: "slowly(body)", write: beside}]\n'
    # The tests' server has no TCP port, and the pooler no other way to it.
    with running_proxy(dsn18) as upstream, running_pooler(upstream.dsn(), pool_size=2) as pooler:
        made = playbook(targets=slow, steps=STEPS, model=tiny_model)
        with open_session(pooler.dsn(dsn18), made) as pooled:
            assert pooled.connection.execute("SHOW statement_timeout").fetchone() == ("2s",)
            assert compare(pooled, sample=150).verdict == "GO"


def test_without_an_index_where_the_old_column_has_one(session: Session, dsn18: str) -> None:
    index(dsn18, "embedding")
    with pytest.raises(NegativeVerdict) as caught:
        compare(session)
    assert "the old one has embedding_idx" in (caught.value.actual or "")
    assert "ragops index rebuild" in (caught.value.hint or "")
    execute(dsn18, "DROP INDEX embedding_idx")
    result = compare(session)
    assert result.verdict == "GO" and [c.name for c in result.targets[0].criteria] == [INDEX]


def test_few_queries_are_inconclusive_and_all_rows_are_not(session: Session, dsn18: str) -> None:
    index(dsn18, "embedding", "embedding_new")
    with pytest.raises(NegativeVerdict) as caught:
        compare(session, sample=20)
    assert "INCONCLUSIVE" in caught.value.what
    assert "--compare-sample 149" in (caught.value.hint or "")
    # Dead rows take the places of living ones in what HNSW finds.
    execute(dsn18, "DELETE FROM notes WHERE id >= 20", "VACUUM notes")
    assert compare(session, sample=20).verdict == "GO"


def test_judged_queries_and_given_ones(session: Session, dsn18: str, tmp_path: Path) -> None:
    index(dsn18, "embedding", "embedding_new")
    judged = tmp_path / "judged.tsv"
    judged.write_text(f"{TEXTS[5]}\t5\n{TEXTS[6]}\t6\n{TEXTS[6]}\t9999\n", encoding="utf-8")
    (one,) = compare(session, judgments=judged, queries=("lock table",), sample=160).targets
    assert (one.queries, one.drawn, one.judged) == (160, 157, 2)
    # The first query finds its row first; of the second one's two, one does not exist.
    assert one.new.ndcg == pytest.approx((1 + 1 / 1.6309) / 2, abs=1e-3) and one.old.ndcg is None
    notes = " ".join(one.notes)
    assert '1 judged keys are no row with a new vector, e.g. ["9999"]' in notes and "need the old model" in notes


class OldModel(BaseHTTPRequestHandler):
    """An endpoint of the model that made the old vectors; every other text gets one and the same vector."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        numbers = [TEXTS.index(text) if text in TEXTS else 0 for text in asked]
        vectors = [[math.sin(n * i * 12.9898) + (n == 0) for i in range(1, 17)] for n in numbers]
        body = json.dumps({"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_an_endpoint_of_the_old_model_is_asked_the_same_queries(
    session: Session, dsn18: str, tmp_path: Path
) -> None:
    index(dsn18, "embedding", "embedding_new")
    execute(dsn18, "DELETE FROM notes WHERE id = 0")
    judged = tmp_path / "judged.tsv"
    judged.write_text("".join(f"{TEXTS[n]}\t{n}\n" for n in range(1, 161)), encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), OldModel) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        reference = {"openai": OpenAIReference(url=f"http://127.0.0.1:{server.server_port}/v1")}
        asked = session.with_playbook(session.playbook.with_changes(reference=reference))
        (one,) = compare(asked, judgments=judged, sample=200).targets
        # The new column's model is not as good for those queries any more.
        execute(dsn18, "UPDATE notes SET embedding_new = (SELECT embedding_new FROM notes WHERE id = 200)")
        with pytest.raises(NegativeVerdict) as caught:
            compare(asked, judgments=judged, sample=200)
        execute(dsn18, "UPDATE notes SET embedding = (SELECT embedding FROM notes WHERE id = 200)")
        with pytest.raises(NegativeVerdict):
            compare(asked, judgments=judged, sample=200)
        server.shutdown()
    assert one.old.queries == "queries embedded by reference.openai"
    assert one.old.ndcg == pytest.approx(1.0) and one.new.ndcg == pytest.approx(1.0, abs=0.02)
    assert {criterion.name: criterion.decision for criterion in one.criteria} == {RECALL: "GO", NDCG: "GO"}
    assert len(one.old_ranks) == len(one.ranks) == 40
    assert "ndcg loses 0.9" in (caught.value.actual or "")
    assert "reference.openai did not make the old vectors" in reported(session)


@pytest.mark.parametrize("opclass", ["l2", "ip"])
def test_halfvec_partitions_and_composite_keys(dsn18: str, tiny_model: Path, opclass: str) -> None:
    execute(
        dsn18,
        "CREATE SCHEMA kb",
        "CREATE TABLE kb.parts (tenant int, day date, body text, gone bool DEFAULT false, embedding halfvec(16),"
        " embedding_new halfvec(32), PRIMARY KEY (tenant, day)) PARTITION BY LIST (tenant)",
        "CREATE TABLE kb.one PARTITION OF kb.parts FOR VALUES IN (0)",
        "CREATE TABLE kb.rest PARTITION OF kb.parts DEFAULT",
    )
    with open_session(dsn18, playbook(targets=HALF, steps=STEPS, model=tiny_model)) as session:
        insert = "SELECT n % 3, date '2026-01-01' + n, body, n % 10 = 0, {old}, {new} FROM made"
        fill(session, f"INSERT INTO kb.parts {insert}")
        index(dsn18, "embedding", "embedding_new", table="kb.parts", ops=f"halfvec_{opclass}_ops")
        (one,) = compare(session, sample=150, max_loss=0.05).targets
    assert (one.new.metric, one.new.vectors, one.decision) == (opclass, ROWS, "GO")
    assert one.new.recall is not None and one.new.recall > 0.95


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip", "l1"])
def test_exact_search_is_the_servers(session: Session, dsn18: str, metric: str) -> None:
    """Neighbours found in one pass are those of a full scan on the server."""
    (facts,) = session.targets()
    columns = Columns(session.connection, session.playbook.targets[0], facts)
    drawn, population = columns.draw(5, seed="1")
    assert (len(drawn), population) == (5, ROWS)
    search = ExactSearch(np.stack([row.new for row in drawn]), metric=metric, k=10)
    for block in columns.blocks(None, None):
        vectors, places = matrix(block.new, block.new_is_indexed, dimensions=32)
        search.add([block.new_keys[n] for n in places], vectors)
    operator = {"cosine": "<=>", "l2": "<->", "ip": "<#>", "l1": "<+>"}[metric]
    for row, found in zip(drawn, search.found(), strict=True):
        vector = "[" + ",".join(map(str, row.new.tolist())) + "]"
        order = f"SELECT id, embedding_new {operator} '{vector}' FROM notes ORDER BY 2 LIMIT 10"
        expected = rows(dsn18, order)
        assert found.distances == pytest.approx([d for _, d in expected], abs=1e-5)
        clear = [f'["{id}"]' for (id, d), (_, e) in pairwise(expected) if e - d > 1e-5]
        assert set(clear) <= set(found.keys)


def test_rows_are_drawn_evenly_and_again_the_same(session: Session, dsn18: str) -> None:
    (facts,) = session.targets()
    columns = Columns(session.connection, session.playbook.targets[0], facts)
    once, again, other = (
        {int(row.key.strip('["]')) for row in columns.draw(30, seed=seed)[0]} for seed in ("1", "1", "2")
    )
    assert once == again != other
    # One of each ten, in the order in which they were stored.
    assert sorted(n // 10 for n in once) == list(range(30))


def test_indexes_on_expressions_and_partial_ones_are_used_as_they_are(session: Session, dsn18: str) -> None:
    execute(
        dsn18,
        "CREATE INDEX half ON notes USING hnsw ((embedding_new::halfvec(32)) halfvec_cosine_ops)"
        " WHERE length(body) > 5",
        "CREATE INDEX bits ON notes USING hnsw ((binary_quantize(embedding)::bit(16)) bit_hamming_ops)",
    )
    (one,) = compare(session, sample=200, max_loss=0.1).targets
    assert (one.new.index, one.old.index) == ("half", None)
    assert any("half is partial: only rows with (length(body) > 5)" in note for note in one.notes)
    assert one.new.recall is not None and one.new.recall > 0.9
