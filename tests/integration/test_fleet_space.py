"""One filling of the queue gets vectors of one space: another model is refused, another build is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from campaigns import Recorder, execute, make_playbook, open_session, reported, reseed_queue, rows, single, value
from stub_child import stub_command
from tiny_gguf import write_tiny_bert

from ragops.campaign import run as campaign
from ragops.campaign.steps.embed import drain
from ragops.errors import RagopsError
from ragops.playbook.model import Source
from ragops.playbook.steps import Embed, EmptyTables, ReseedQueue
from ragops.session import Session
from ragops.workers.cutting import Cutting, splitter_version
from ragops.workers.state import Stop

FINGERPRINTS = "SELECT DISTINCT fingerprint FROM ingestion_metrics"


@pytest.fixture
def session(dsn18: str, tiny_model: Path, tmp_path: Path) -> Iterator[Session]:
    """30 items, of which the first ten are embedded by a stub."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.txt").write_text(f"text number {number}", encoding="utf-8")
    playbook = make_playbook(model=tiny_model, source=Source(folder=folder))
    with open_session(dsn18, playbook, embedder_command=stub_command()) as opened:
        reseed_queue(opened)
        drain(single(opened), until=10)
        yield opened


def build(session: Session, *arguments: str) -> Session:
    """The same session with workers of another build."""
    return replace(session, embedder_command=stub_command("version=1", *arguments))


def changed(session: Session, **sections: dict[str, object]) -> Session:
    return session.with_playbook(session.playbook.with_changes(**sections))


def assert_refused(session: Session, *, actual: str, expected: str, until: int = 20) -> None:
    before = rows(session.target.conninfo, "SELECT * FROM files_queue ORDER BY id")
    with pytest.raises(RagopsError, match="would mix two vector spaces") as caught:
        drain(single(replace(session, stop=Stop())), until=until)
    assert actual in (caught.value.actual or "")
    assert expected in (caught.value.expected or "")
    assert "ragops reset --new" in (caught.value.hint or "")
    assert rows(session.target.conninfo, "SELECT * FROM files_queue ORDER BY id") == before, "nothing is claimed"


def test_the_same_workers_go_on(session: Session) -> None:
    assert drain(single(session)).completed == 20
    assert "fingerprint" not in reported(session)
    assert value(session.target.conninfo, "SELECT canary IS NOT NULL FROM ragops.fingerprint") is True
    filling = session.queue.filling()
    assert filling.generation == 1
    assert Cutting.parse(filling.chunking) == Cutting(64, 0, "", "", "by_name", splitter_version())
    assert rows(session.target.conninfo, FINGERPRINTS) == [(filling.fingerprint,)]


def test_another_model_file_prefix_or_cut_is_refused(session: Session, tmp_path: Path) -> None:
    other = write_tiny_bert(tmp_path / "other.gguf", seed=1)
    model = str(session.playbook.model.file)
    assert_refused(
        changed(session, model={"file": other}),
        actual=f"model file {other}, SHA-256 ",
        expected=f"model file {model}, SHA-256 ",
    )
    assert_refused(
        changed(session, model={"document_suffix": "[MASK]"}),
        actual="document_suffix '[MASK]'",
        expected="document_suffix ''",
    )
    prefixed = changed(session, model={"document_prefix": "passage: "})
    assert_refused(prefixed, actual="document_prefix 'passage: '", expected="document_prefix ''")
    cut = changed(session, chunking={"max_tokens": 32, "overlap_tokens": 4})
    assert_refused(cut, actual="chunking max_tokens 32", expected="chunking max_tokens 64")
    # Put before queries only: it moves no stored vector.
    assert drain(single(changed(session, model={"query_prefix": "query: "}))).completed == 20
    assert "the vectors of the two are identical" in reported(session)


def test_another_build_with_the_same_vectors_goes_on(session: Session) -> None:
    assert drain(single(build(session))).completed == 20
    said = reported(session)
    assert said.count("these workers have another build than the first ones of this queue") == 1
    assert "the vectors of the two are identical" in said
    assert "other workers wrote here too" not in said
    assert len(rows(session.target.conninfo, FINGERPRINTS)) == 2


def test_another_build_with_nearly_the_same_vectors_goes_on(session: Session) -> None:
    assert drain(single(build(session, "drift=1"))).completed == 20
    assert "the vectors of the two are equivalent, largest distance " in reported(session)


def test_another_build_with_other_vectors_is_refused(session: Session) -> None:
    assert_refused(
        build(session, "drift=500"),
        actual="build llama-cpp-python 1 (no feature): divergent, largest distance 0.",
        expected="build llama-cpp-python 0 (no feature)",
    )


def test_the_limits_are_those_of_the_playbook(session: Session) -> None:
    strict = changed(session, build={"max_drift": 1e-9})
    assert_refused(build(strict, "drift=1"), actual="divergent", expected="build")


def test_what_cannot_be_measured_is_named(session: Session) -> None:
    execute(session.target.conninfo, "UPDATE ragops.fingerprint SET canary = NULL")
    drain(single(build(session, "drift=500")), until=20)
    assert "other workers wrote here too" in reported(session)


def test_before_anything_is_embedded_another_model_takes_the_place(session: Session, tmp_path: Path) -> None:
    """The wrong model was started first, and nothing came of it."""
    other = changed(session, model={"file": write_tiny_bert(tmp_path / "other.gguf", seed=1)})
    before = session.queue.filling()
    execute(session.target.conninfo, "UPDATE files_queue SET status = 'pending'", "TRUNCATE ingestion_metrics")
    assert drain(single(other), until=20).completed == 20
    after = session.queue.filling()
    assert (after.generation, after.source) == (before.generation + 1, before.source)
    assert after.fingerprint != before.fingerprint
    # Who was started for the filling of before claims nothing more.
    claim = session.queue.claim(size=9, worker="w", lease_s=60, generation=before.generation)
    assert claim is None
    assert_refused(session, actual="SHA-256", expected="SHA-256", until=25)


def test_another_filling_may_have_another_space(session: Session) -> None:
    execute(session.target.conninfo, "TRUNCATE files_queue, documents CASCADE")
    reseed_queue(session)
    assert session.queue.filling().fingerprint is None
    assert drain(single(build(session, "drift=500"))).completed == 30


def test_a_queue_that_ragops_never_filled_has_one_space_as_well(session: Session) -> None:
    execute(session.target.conninfo, "DELETE FROM ragops.source")
    drain(single(session), until=15)
    filling = session.queue.filling()
    assert (filling.generation, filling.source) == (0, None)
    assert_refused(changed(session, model={"document_prefix": "x "}), actual="'x '", expected="''")


def test_a_side_fleet_does_not_decide_the_space_of_a_campaign(
    dsn18: str, tiny_model: Path, tmp_path: Path
) -> None:
    """It waits for the queue with another model, and would be the first one to claim."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.txt").write_text(f"text number {number}", encoding="utf-8")
    steps = (EmptyTables(step="empty_tables"), ReseedQueue(step="reseed_queue"), Embed(step="embed"))
    playbook = make_playbook(model=tiny_model, source=Source(folder=folder), steps=steps)
    other = write_tiny_bert(tmp_path / "other.gguf", dimensions=32, seed=7)

    class Meanwhile(Recorder):
        def info(self, message: str, **fields: object) -> None:
            super().info(message)
            if "per batch (" in message:  # the campaign's fleet is about to start its children
                with open_session(
                    dsn18, playbook.with_changes(model={"file": other}), embedder_command=stub_command()
                ) as side:
                    assert drain(single(side)).completed == 0

    with open_session(dsn18, playbook, embedder_command=stub_command()) as session:
        told = Session.on(
            session.connection,
            session.target,
            playbook,
            reporter=Meanwhile(),
            embedder_command=stub_command(),
        )
        assert campaign.start(told, campaign.plan_campaign(told)).status == "done"
    assert len(rows(dsn18, FINGERPRINTS)) == 1
    assert value(dsn18, "SELECT count(*) FROM documents") == 30
