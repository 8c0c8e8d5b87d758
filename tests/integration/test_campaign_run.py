"""Whole campaigns with a real model: exact gates, a ledger that agrees, verdicts that stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaigns import REALIGN, execute, make_playbook, open_session, queue_of, reported, rows, single, value
from conftest import write_corpus

from ragops.campaign import measure
from ragops.campaign import run as campaign
from ragops.campaign.run import CampaignResult
from ragops.campaign.steps import building, embed, validate
from ragops.campaign.undo import undo
from ragops.embedder.config import probe_model
from ragops.errors import FenceLost, Interrupted, NegativeVerdict, RagopsError
from ragops.playbook import Playbook
from ragops.playbook.model import Index, Source
from ragops.playbook.tables import Tables
from ragops.postgres.index_builds import create
from ragops.postgres.ledger import Ledger, latest_campaign
from ragops.session import Session
from ragops.workers.inflight import UniqueText
from ragops.workers.supervisor import Outcome, Supervisor

DOCUMENTS = 40
INDEXES = (Index(name="docs_hnsw", table="documents"), Index(name="chunks_hnsw", table="document_chunks"))
STEPS = "SELECT number, verb, status FROM ragops.step ORDER BY number"
VERBS = [step.step for step in REALIGN]
# The vectors of another space: as long, finite, wrong.
NEGATE = """
CREATE FUNCTION negate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  NEW.embedding := (SELECT array_agg(-x ORDER BY place)
                      FROM unnest(NEW.embedding::real[]) WITH ORDINALITY AS e(x, place))::vector;
  RETURN NEW;
END $$
"""
ATTACH = "CREATE TRIGGER negate BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION negate()"
OLD = (
    "INSERT INTO documents (content, embedding)"
    " SELECT n, array_fill(n, ARRAY[32])::vector FROM generate_series(1, 9) n",
    "CREATE INDEX docs_hnsw ON documents USING hnsw (embedding vector_cosine_ops)"
    " WITH (m='8', ef_construction='32')",
    "INSERT INTO files_queue (file_path, status) SELECT n, 'completed' FROM generate_series(1, 9) n",
)


@pytest.fixture
def playbook(tiny_model: Path, tmp_path: Path) -> Playbook:
    corpus = write_corpus(tmp_path / "corpus", DOCUMENTS)
    workers = {"count": 2, "batch_size": 3}
    return make_playbook(model=tiny_model, source=Source(folder=corpus), workers=workers, indexes=INDEXES)


@pytest.fixture
def session(dsn: str, playbook: Playbook) -> Iterator[Session]:
    execute(dsn, *OLD)
    with open_session(dsn, playbook) as opened:
        yield opened


@pytest.fixture
def session18(dsn18: str, playbook: Playbook) -> Iterator[Session]:
    execute(dsn18, *OLD)
    with open_session(dsn18, playbook) as opened:
        yield opened


def start(session: Session) -> CampaignResult:
    model = probe_model(session.playbook)
    return campaign.start(session, campaign.plan_campaign(session, model=model, items=DOCUMENTS))


def counts(dsn: str) -> dict[str, int]:
    return dict(rows(dsn, "SELECT status, count(*) FROM files_queue GROUP BY 1"))


def test_from_broken_to_proven(session: Session, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []
    measured_as, build = measure.measure, create

    def look(verb: str) -> None:
        completed = counts(dsn).get("completed", 0)
        seen.append((verb, completed, value(dsn, "SELECT count(*) FROM documents")))

    def measured(*args: Any, **options: Any) -> Any:
        look("validate")
        return measured_as(*args, **options)

    def built(*args: Any, **options: Any) -> None:
        look("rebuild")
        build(*args, **options)

    monkeypatch.setattr(validate, "measure", measured)
    monkeypatch.setattr(building, "create", built)
    result: dict[str, Any] = start(session).to_json()
    assert seen == [("validate", 10, 10), ("rebuild", 20, 20), ("rebuild", 20, 20), ("validate", 40, 40)]
    assert (result["status"], result["verdict"]) == ("done", "pass")
    assert (result["seeded"], result["completed"], result["failed"]) == (DOCUMENTS, DOCUMENTS, 0)
    assert result["bytes_freed"] > 0
    assert [(s["name"], s["status"]) for s in result["steps"]] == [(verb, "done") for verb in VERBS]
    assert rows(dsn, STEPS) == [(n, verb, "done") for n, verb in enumerate(VERBS, start=1)]
    effects = {s["number"]: s["effect"] for s in result["steps"]}
    assert [effects[n]["completed"] for n in (5, 7, 9)] == [10, 10, 20]
    assert rows(dsn, "SELECT phase, count(*) FROM files_queue GROUP BY 1 ORDER BY 1") == [
        (1, 10),
        (2, 10),
        (3, 20),
    ]
    assert rows(dsn, "SELECT status, holder, error FROM ragops.campaign") == [("done", None, None)]
    # The journaled definition wins over the playbook's; what the playbook adds is made.
    query = "SELECT indexname, indexdef ~ 'm=''8''' FROM pg_indexes WHERE indexdef ~ 'hnsw' ORDER BY 1"
    assert rows(dsn, query) == [("chunks_hnsw", False), ("docs_hnsw", True)]


def test_the_runbooks_statistics_are_in_the_result(session18: Session) -> None:
    start(session18)
    effect: dict[str, Any] = validate.validate(single(session18), seed=0.5).to_json()
    assert effect["verdict"] == "pass"
    assert effect["documents"] == DOCUMENTS
    assert effect["backend_embedding_dims"] == 32
    stats = effect["comparison_stats"]
    assert stats["total_docs"] == DOCUMENTS
    assert 0 <= stats["distance_min"] <= stats["distance_avg"] <= stats["distance_max"] <= 2
    assert stats["count_threshold_0.9"] >= stats["count_threshold_0.3"] >= 0
    assert effect["agreement"]["max"] < 1e-5


def test_a_failed_gate_stops_at_its_number(session: Session, dsn: str, playbook: Playbook) -> None:
    execute(dsn, NEGATE, ATTACH)
    with pytest.raises(NegativeVerdict) as caught:
        start(session)
    assert caught.value.exit_code == 3
    assert caught.value.actual is not None and "stored_vectors_agree" in caught.value.actual
    assert counts(dsn) == {"completed": 10, "pending": 30}
    assert rows(dsn, "SELECT status, phase, holder FROM ragops.campaign") == [("gate_failed", 1, None)]
    assert [status for *_, status in rows(dsn, STEPS)] == ["done"] * 5 + ["failed"] + ["planned"] * 4
    failed = rows(dsn, "SELECT effect->>'verdict', error FROM ragops.step WHERE number = 6")
    assert failed == [("fail", "validation failed")]

    with open_session(dsn, playbook) as standalone:
        assert embed.drain(single(standalone)).completed == 0
        assert embed.drain(single(standalone), until=30).completed == 0
        closed = embed.closed_gate(standalone)
        assert closed is not None and closed.startswith("30 items lie behind the gate")
        with pytest.raises(RagopsError, match="is unfinished: gate_failed"):
            campaign.refuse_unfinished(standalone)
    untouched = "SELECT count(*) FROM files_queue WHERE phase > 1 AND status = 'pending' AND claimed_by IS NULL"
    assert value(dsn, untouched) == 30

    with open_session(dsn, playbook) as again, pytest.raises(NegativeVerdict):
        campaign.resume(again)
    assert counts(dsn) == {"completed": 10, "pending": 30}


def test_a_mended_campaign_goes_on_behind_its_gate(session18: Session, dsn18: str, playbook: Playbook) -> None:
    execute(dsn18, NEGATE, ATTACH)
    with pytest.raises(NegativeVerdict):
        start(session18)
    execute(
        dsn18,
        "DROP TRIGGER negate ON documents",
        "UPDATE documents d SET embedding = c.embedding FROM document_chunks c WHERE c.document_id = d.id",
    )
    written = rows(dsn18, "SELECT id FROM documents ORDER BY id")
    with open_session(dsn18, playbook) as again:
        result = campaign.resume(again)
        assert "after 5 finished steps" in reported(again)
    assert (result.status, result.verdict, result.completed) == ("done", "pass", DOCUMENTS)
    assert value(dsn18, "SELECT count(*) FROM documents") == DOCUMENTS
    assert rows(dsn18, "SELECT id FROM documents ORDER BY id LIMIT 10") == written
    assert value(dsn18, "SELECT count(*) FROM ragops.archive WHERE logical = 'documents'") == 1


def test_a_model_with_another_pooling_fails_at_the_gate(session18: Session) -> None:
    """The pooling changes between embedding and validating, as between workers and backend."""
    run = embed.EmbedStep.run

    def embed_with_cls(step: embed.EmbedStep, inner: Any) -> Any:
        cls = inner.session.playbook.with_changes(model={"pooling": "cls"})
        return run(step, replace(inner, session=inner.session.with_playbook(cls)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed.EmbedStep, "run", embed_with_cls)
        with pytest.raises(NegativeVerdict) as caught:
            start(session18)
    assert caught.value.actual is not None and "stored_vectors_agree" in caught.value.actual
    assert queue_of(session18.connection).counts()["completed"] == 10


def test_undo_after_a_failed_gate(session: Session, dsn: str) -> None:
    before = rows(dsn, "SELECT d::text FROM documents d ORDER BY 1")
    execute(dsn, NEGATE, ATTACH)
    with pytest.raises(NegativeVerdict):
        start(session)
    execute(dsn, "DROP TRIGGER negate ON documents")
    undo(session)
    assert rows(dsn, "SELECT d::text FROM documents d ORDER BY 1") == before
    assert counts(dsn) == {"completed": 9}
    assert value(dsn, "SELECT indexdef FROM pg_indexes WHERE indexname = 'docs_hnsw'").endswith(
        "(m='8', ef_construction='32')"
    )
    assert value(dsn, "SELECT count(*) FROM pg_indexes WHERE indexname = 'chunks_hnsw'") == 0


def test_a_stopped_campaign_is_resumed(
    session18: Session, dsn18: str, playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_request = Supervisor.embed

    def stop_in_phase_two(self: Supervisor, pieces: Sequence[UniqueText]) -> Outcome:
        if counts(dsn18).get("completed", 0) >= 10:
            session18.stop.requested.set()
        return embed_request(self, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(Supervisor, "embed", stop_in_phase_two)
        with pytest.raises(Interrupted) as caught:
            start(session18)
    assert caught.value.hint == "ragops reset --resume"
    assert rows(dsn18, "SELECT status, holder FROM ragops.campaign") == [("stopped", None)]
    done = counts(dsn18)["completed"]
    assert 10 < done < 20
    # Another playbook file does not change the campaign that was started.
    other = playbook.model_copy(update={"steps": (REALIGN[0],), "source": Source()})
    with open_session(dsn18, other) as again:
        result = campaign.resume(again)
    assert (result.completed, result.verdict) == (DOCUMENTS, "pass")
    assert value(dsn18, "SELECT count(DISTINCT file_id) FROM documents") == DOCUMENTS
    with open_session(dsn18, playbook) as again, pytest.raises(RagopsError, match="nothing to resume"):
        campaign.resume(again)


def test_a_controller_that_was_replaced_stops_at_its_next_record(
    session18: Session, dsn18: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = validate.validate

    def taken_over_meanwhile(inner: Any, **options: Any) -> Any:
        result = run(inner, **options)
        connection = inner.session.connection
        row = latest_campaign(connection, Tables())
        assert row is not None
        Ledger.take(connection, row)
        return result

    monkeypatch.setattr(validate, "validate", taken_over_meanwhile)
    with pytest.raises(FenceLost, match="taken over"):
        start(session18)
    assert counts(dsn18) == {"completed": 10, "pending": 30}
    assert [status for *_, status in rows(dsn18, STEPS)] == ["done"] * 5 + ["running"] + ["planned"] * 4
    assert rows(dsn18, "SELECT status, epoch FROM ragops.campaign") == [("running", 2)]
