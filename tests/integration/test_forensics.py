"""What made stored vectors is measured: text, prefix, pooling, long texts, several writers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import DIMENSIONS, WORDS
from numpy.typing import NDArray
from playbook_factory import playbook
from psycopg import sql
from psycopg.types.json import Json
from tiny_gguf import write_tiny_bert

from ragops.documents.chunking import Chunker
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.forensics.candidates import Candidate, candidates_of
from ragops.forensics.findings import Findings
from ragops.forensics.measure import measure_texts, sample_values
from ragops.playbook.model import Model
from ragops.playbook.names import TableName
from ragops.postgres.catalog import read_table
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.vector_values import Vector
from ragops.quality.vectors import mean_vector, normalize
from ragops.session import Session

Vectors = NDArray[np.float32]
ROWS = 60


@dataclass(frozen=True)
class Row:
    title: str
    body: str


@dataclass
class Bench:
    """A table of articles, and the model that measures it."""

    connection: Connection
    session: Session
    model: Path

    def embed(self, texts: Sequence[str], *, pooling: str = "mean", model: Path | None = None) -> Vectors:
        """The vectors as another program would make them, normalised."""
        config = EmbedderConfig(model=model or self.model, pooling=pooling, tokens_per_batch=1)
        with Embedder(config) as embedder:
            found = embedder.embed(texts).vectors
        return normalize(found)

    def store(
        self, rows: Sequence[Row], vectors: Vectors, *, kind: str | None = None, **columns: Sequence[object]
    ) -> None:
        """Make the table `articles`; further columns are text."""
        more = "".join(f", {name} text" for name in columns)
        self.connection.execute(
            f"CREATE TABLE articles (id bigserial PRIMARY KEY, slug text, title text, body text{more},"
            f" embedding {kind or f'vector({vectors.shape[1]})'})"
        )
        insert = sql.SQL("INSERT INTO articles (slug, title, body, embedding{}) VALUES (%s, %s, %s, %s{})").format(
            sql.SQL("").join(sql.SQL(", {}").format(sql.Identifier(name)) for name in columns),
            sql.SQL(", %s" * len(columns)),
        )
        for i, (row, vector) in enumerate(zip(rows, vectors, strict=True)):
            values = [values[i] for values in columns.values()]
            self.connection.execute(insert, [f"article-{i}", row.title, row.body, Vector(vector), *values])

    def measure(self, table: str = "articles", column: str = "embedding", **changes: object) -> Findings:
        facts = read_table(self.connection, TableName.parse(table))
        assert facts is not None
        settings = Model(file=self.model, **changes)  # type: ignore[arg-type]
        return measure_texts(self.session, facts, column, model=settings)


@pytest.fixture
def bench(dsn18: str, tiny_model: Path) -> Iterator[Bench]:
    target = Target(dsn18, "test")
    with connect(target) as connection:
        yield Bench(connection, Session.on(connection, target, playbook()), tiny_model)


def articles(count: int = ROWS, *, words: tuple[int, int] = (6, 20)) -> list[Row]:
    rng = random.Random(7)
    return [
        Row(" ".join(rng.choices(WORDS, k=3)), f"{i} " + " ".join(rng.choices(WORDS, k=rng.randint(*words))))
        for i in range(count)
    ]


def test_title_and_body_with_a_prefix_are_found(bench: Bench) -> None:
    rows = articles()
    bench.store(rows, bench.embed([f"passage: {row.title}\n\n{row.body}" for row in rows]))
    found = bench.measure()
    winner = found.winner
    assert winner is not None
    assert winner.recipe.candidate.text == "{title}\n\n{body}"
    assert (winner.recipe.prefix, winner.recipe.pooling) == ("passage: ", "mean")
    assert winner.recipe.long_text is None
    # This tokenizer drops white space, so that it cannot tell the separators apart.
    assert 'title "\\n" body' in winner.same
    assert 'title ": " body' not in winner.same
    assert found.is_uniform and found.is_normalised
    first, second, *_ = found.sentences()
    assert first.startswith(
        'all 50 sampled rows of 60 agree with title "\\n\\n" body, mean pooling, prefix "passage: "'
    )
    assert second == "0 of 50 differ: fewer than 6 % of all rows at 95 % confidence"


def test_halfvec_with_another_pooling_is_found(bench: Bench) -> None:
    rows = articles()
    bench.store(rows, bench.embed([row.body for row in rows], pooling="cls"), kind=f"halfvec({DIMENSIONS})")
    found = bench.measure()
    assert found.is_uniform and found.winner is not None
    assert (found.winner.recipe.candidate.text, found.winner.recipe.pooling) == ("{body}", "cls")
    assert found.is_normalised


def test_several_writers_are_told_apart_by_a_column(bench: Bench) -> None:
    rows = articles()
    cls = bench.embed([row.body for row in rows], pooling="cls")
    mean = bench.embed([f"query: {row.title}" for row in rows])
    noise = np.random.default_rng(1).normal(size=mean.shape).astype(np.float32)
    tenants = [("a", "b", "b", "c", "c")[i % 5] for i in range(len(rows))]
    vectors = np.stack([{"a": mean, "b": cls, "c": noise}[tenant][i] for i, tenant in enumerate(tenants)])
    bench.store(rows, vectors, tenant=tenants, constant=["x"] * len(rows))
    found = bench.measure()
    assert not found.is_uniform
    assert [(w.recipe.candidate.text, w.recipe.prefix, w.recipe.pooling, w.where) for w in found.writers] == [
        ("{body}", "", "cls", "tenant = 'b'"),
        ("{title}", "query: ", "mean", "tenant = 'a'"),
    ]
    assert found.writers[0].rows + found.writers[1].rows + found.unexplained == found.sampled == 50
    assert found.unexplained == pytest.approx(20, abs=5)
    assert found.unexplained_where == "tenant = 'c'"
    assert {group.column for group in found.groups} == {"tenant"}
    # Those of tenant c, which have another length, are none that were understood.
    assert found.is_normalised is True
    assert next(iter(found.sentences())).startswith("several writers: of 50 sampled rows of 60, ")
    assert "% agree with nothing (where tenant = 'c')" in next(iter(found.sentences()))


def test_vectors_of_another_model_are_explained_by_nothing(bench: Bench, tmp_path: Path) -> None:
    other = write_tiny_bert(tmp_path / "other.gguf", dimensions=48, seed=5)
    rows = articles()
    bench.store(rows, bench.embed([row.body for row in rows], model=other))
    found = bench.measure()
    assert found.winner is None and found.unexplained == 50
    told = list(found.sentences())
    assert told[0].startswith("no candidate text of this model explains any of 50 sampled rows of 60")
    assert "the stored vectors have 48 dimensions, the model's have 32" in told
    # What the texts have in common shows in any model's vectors.
    assert found.alike is not None and found.alike[0] == "body"
    assert any("follow those of body" in sentence for sentence in told)


def test_random_vectors_are_explained_by_nothing(bench: Bench) -> None:
    rows = articles()
    bench.store(rows, np.random.default_rng(1).normal(size=(ROWS, DIMENSIONS)).astype(np.float32))
    found = bench.measure()
    assert found.winner is None and found.is_normalised is False
    assert not any("follow those" in sentence for sentence in found.sentences())


@pytest.mark.parametrize("how", ["truncate", "mean"])
def test_what_became_of_long_texts_is_found(bench: Bench, how: str) -> None:
    # Of 128 tokens that the model reads.
    rows = articles(24, words=(20, 200))
    settings = EmbedderConfig(model=bench.model, pooling="mean", tokens_per_batch=1)
    with Embedder(settings) as embedder:
        ids = embedder.tokenise([row.body for row in rows])
        short = [i for i, one in enumerate(ids) if len(one) <= 128]
        assert 4 <= len(short) <= 20
        if how == "truncate":
            vectors = embedder.embed_tokens(
                [np.append(one[:127], one[-1]) if len(one) > 128 else one for one in ids]
            )
            stored = vectors.vectors
        else:
            stored = np.stack([chunked(embedder, row.body) for row in rows])
    bench.store(rows, stored)
    found = bench.measure()
    assert found.is_uniform and found.winner is not None
    assert (found.winner.recipe.candidate.text, found.winner.recipe.long_text) == ("{body}", how)
    assert found.winner.recipe.max_tokens == 128


def chunked(embedder: Embedder, text: str) -> Vectors:
    chunks = Chunker(count_tokens=embedder.count_tokens, max_tokens=128).chunk(text)
    return mean_vector(embedder.embed([chunk.text for chunk in chunks]).vectors)


def test_the_first_dimensions_and_raw_vectors_are_recognised(bench: Bench) -> None:
    rows = articles(30)
    bench.store(rows, 3 * bench.embed([row.title for row in rows])[:, :16])
    found = bench.measure()
    assert found.is_uniform and found.winner is not None
    assert (found.winner.recipe.candidate.text, found.winner.recipe.dimensions) == ("{title}", 16)
    assert found.is_normalised is False
    # Every row of a small table is compared: nothing is left to a bound.
    assert not any("confidence" in sentence for sentence in found.sentences())


def test_texts_that_changed_are_near(bench: Bench) -> None:
    rows = articles(40, words=(30, 40))
    vectors = bench.embed([row.body for row in rows])
    changed = [replace(row, body=row.body + " lock") if i % 4 == 0 else row for i, row in enumerate(rows)]
    bench.store(changed, vectors)
    found = bench.measure()
    exact, near = found.writers
    assert (exact.is_exact, exact.rows, near.is_exact, near.rows) == (True, 30, False, 10)
    assert near.recipe.candidate == exact.recipe.candidate and found.unexplained == 0
    assert "25 % are near body" in next(iter(found.sentences()))


def test_what_llama_index_embeds_is_found(bench: Bench) -> None:
    rows = articles(20)
    nodes = [
        {"module": row.title, "page": i, "draft": i % 2 == 0, "hidden": "x" * i} for i, row in enumerate(rows)
    ]
    texts = [
        f"module: {node['module']}\npage: {node['page']}\ndraft: {node['draft']}\n\n{row.body}"
        for node, row in zip(nodes, rows, strict=True)
    ]
    bench.connection.execute(
        f"CREATE TABLE data_docs (id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ json,"
        f" node_id varchar, embedding vector({DIMENSIONS}))"
    )
    for i, (row, node, vector) in enumerate(zip(rows, nodes, bench.embed(texts), strict=True)):
        inner = Json({"metadata": node, "excluded_embed_metadata_keys": ["hidden"]}).obj
        stored = {**node, "_node_content": json_text(inner), "_node_type": "TextNode"}
        bench.connection.execute(
            "INSERT INTO data_docs (text, metadata_, node_id, embedding) VALUES (%s, %s, %s, %s)",
            [row.body, Json(stored), f"n{i}", Vector(vector)],
        )
    found = bench.measure("data_docs")
    assert found.is_uniform and found.winner is not None
    assert found.winner.recipe.candidate.label == "LlamaIndex's metadata and text"


def json_text(value: object) -> str:
    return json.dumps(value)


def test_quoted_names_and_partitions_are_read_and_nothing_is_written(bench: Bench) -> None:
    rows = articles(30)
    bench.connection.execute(
        f'CREATE TABLE "Doc Store" ("Id" int, "Part" int, "Text %" text, "Embedding %" vector({DIMENSIONS}),'
        ' PRIMARY KEY ("Id", "Part")) PARTITION BY LIST ("Part");'
        'CREATE TABLE one PARTITION OF "Doc Store" FOR VALUES IN (1);'
        'CREATE TABLE two PARTITION OF "Doc Store" FOR VALUES IN (2)'
    )
    for i, (row, vector) in enumerate(zip(rows, bench.embed([row.body for row in rows]), strict=True)):
        bench.connection.execute(
            'INSERT INTO "Doc Store" VALUES (%s, %s, %s, %s)', [i, 1 + i % 2, row.body, Vector(vector)]
        )
    facts = read_table(bench.connection, TableName.parse('"Doc Store"'))
    assert facts is not None
    samples = sample_values(bench.session, facts, "Embedding %")
    assert [candidate.sql for candidate in candidates_of(facts, samples)] == ['"Text %"']
    found = bench.measure('"Doc Store"', "Embedding %")
    assert found.is_uniform and found.sampled == 30
    limited = measure_texts(
        bench.session, facts, "Embedding %", model=Model(file=bench.model), where="\"Part\" = 1 AND 'a' LIKE '%'"
    )
    assert limited.is_uniform and limited.sampled == limited.total == 15
    assert limited.to_json()["is_uniform"] is True


def test_a_candidate_that_the_server_refuses_is_named(bench: Bench) -> None:
    rows = articles(12)
    bench.store(rows, bench.embed([row.body for row in rows]))
    facts = read_table(bench.connection, TableName.parse("articles"))
    assert facts is not None
    candidates = [
        Candidate("broken", sql="body->>'x'"),
        Candidate("writes", sql="(SELECT nextval('articles_id_seq')::text)"),
        Candidate("body", text="{body}"),
    ]
    found = measure_texts(bench.session, facts, "embedding", candidates, model=Model(file=bench.model))
    assert found.is_uniform and found.winner is not None and found.winner.recipe.candidate.label == "body"
    reasons = dict(found.unreadable)
    assert "operator does not exist" in reasons["broken"]
    assert "read-only transaction" in reasons["writes"]


def test_an_empty_table_says_so(bench: Bench) -> None:
    bench.connection.execute(f"CREATE TABLE articles (id int, body text, embedding vector({DIMENSIONS}))")
    assert list(bench.measure().sentences()) == [
        "public.articles.embedding has no vector yet: nothing can be measured"
    ]


def test_another_quantisation_is_near(bench: Bench, tmp_path: Path) -> None:
    precise = write_tiny_bert(tmp_path / "precise.gguf", dimensions=64, seed=3)
    quantised = write_tiny_bert(tmp_path / "quantised.gguf", dimensions=64, seed=3, quantise=True)
    rows = articles(20)
    bench.store(rows, bench.embed([row.body for row in rows], model=quantised))
    bench.model = precise
    facts = read_table(bench.connection, TableName.parse("articles"))
    assert facts is not None
    found = measure_texts(bench.session, facts, "embedding", model=Model(file=precise), max_distance=1e-7)
    (writer,) = found.writers
    assert (writer.is_exact, writer.rows, writer.recipe.candidate.text) == (False, 20, "{body}")
