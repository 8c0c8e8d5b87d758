"""The child that embeds a sample, and the one that reads the library, are killed: another one goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from campaigns import execute, make_playbook, open_session, reported, single
from stub_child import stub_command

from ragops.builds.library import run_probe
from ragops.campaign.steps.embed import drain
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.campaign.steps.validate import validate
from ragops.campaign.steps.verify_build import VerifyBuildStep, compare_with_stored
from ragops.embedder.starting import STARTS_AGAIN
from ragops.errors import EmbedderDied, EmbedderError
from ragops.fingerprint.verify import verify
from ragops.playbook.model import Source
from ragops.playbook.steps import ReseedQueue, VerifyBuild
from ragops.session import Session

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def chances(tmp_path: Path) -> Path:
    """Each file in it kills one child that meets the word CHANCE."""
    folder = tmp_path / "chances"
    folder.mkdir()
    return folder


def _fill(session: Session) -> None:
    ReseedQueueStep(ReseedQueue(step="reseed_queue")).run(single(session))
    assert drain(single(session)).completed == 8


@pytest.mark.parametrize("killed", [1, STARTS_AGAIN])
def test_a_sample_survives_the_death_of_its_child(
    dsn18: str, tiny_model: Path, tmp_path: Path, chances: Path, killed: int
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(8):
        (corpus / f"{number}.txt").write_text(f"by CHANCE {number}")
    playbook = make_playbook(model=tiny_model, source=Source(folder=corpus))
    command = stub_command(f"chance={chances}")
    with open_session(dsn18, playbook, embedder_command=command) as session:
        _fill(session)
        for number in range(killed):
            (chances / str(number)).touch()
        assert validate(single(session)).verdict == "pass"
        assert list(chances.iterdir()) == []
        assert reported(session).count("killed by SIGKILL; going on with another one") == killed
        (chances / "once more").touch()
        agreement = compare_with_stored(single(session))
        assert agreement is not None and (agreement.rows, agreement.disagreeing) == (16, 0)
        assert list(chances.iterdir()) == []
        for number in range(STARTS_AGAIN + 1):
            (chances / str(number)).touch()
        with pytest.raises(EmbedderDied, match="SIGKILL"):
            validate(single(session))


def test_a_verification_says_that_its_child_was_killed(dsn18: str, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "kills").write_text("3")
    command = stub_command(f"requests={tmp_path}")
    with open_session(dsn18, make_playbook(model=tiny_model), embedder_command=command) as session:
        result = VerifyBuildStep(VerifyBuild(step="verify_build")).run(single(session))
        assert result.verification.batches is not None and result.verification.batches.texts > 0
        killed = "the embedder process was killed by SIGKILL; going on with another one"
        assert reported(session).count(killed) == 1


def _run(session: Session) -> None:
    """Everything that a campaign asks children for: verify, embed, validate."""
    verification = verify(session.playbook, command=session.embedder_command)
    assert verification.batches is not None
    ReseedQueueStep(ReseedQueue(step="reseed_queue")).run(single(session))
    result = drain(single(session))
    assert result.completed == 8
    # A fleet that could not measure them would embed in any.
    assert result.batches is not None and result.batches.texts > 0
    assert validate(single(session)).verdict == "pass"


@pytest.mark.slow
@pytest.mark.long
def test_any_request_may_be_the_last_one_of_its_child(dsn18: str, tiny_model: Path, tmp_path: Path) -> None:
    """SIGKILL at every kind of request of a campaign, also at those that nobody makes for a document."""
    corpus, requests = tmp_path / "corpus", tmp_path / "requests"
    for folder in (corpus, requests):
        folder.mkdir()
    for number in range(8):
        (corpus / f"{number}.txt").write_text(f"a text with the number {number}")
    command = stub_command(f"requests={requests}")

    def run(kills: int) -> list[str]:
        """Run with a child that is killed by the request of that number; return all requests."""
        for file in requests.iterdir():
            file.unlink()
        (requests / "kills").write_text(str(kills))
        execute(dsn18, "TRUNCATE documents, document_chunks, parsed_files, ingestion_metrics, files_queue")
        execute(dsn18, "TRUNCATE ragops.source, ragops.fingerprint CASCADE")
        with open_session(dsn18, playbook, embedder_command=command) as session:
            _run(session)
        count = len(list(requests.iterdir())) - 1
        return [(requests / str(number)).read_text() for number in range(1, count + 1)]

    playbook = make_playbook(model=tiny_model, source=Source(folder=corpus))
    undisturbed = run(0)
    verbs = ["", *(request.split()[0] for request in undisturbed)]
    # Of those that are alike, after one that is alike, the first and the last.
    pairs = [(verbs[number - 1], verbs[number]) for number in range(1, len(verbs))]
    first = {pair: number for number, pair in reversed([*enumerate(pairs, start=1)])}
    last = {pair: number for number, pair in enumerate(pairs, start=1)}
    places = {*first.values(), *last.values()}
    assert len(places) > 10
    for number in sorted(places):
        assert len(run(number)) > number, f"killed by request {number}: {undisturbed[number - 1]}"


def test_a_library_is_read_again_when_its_reader_was_killed(tmp_path: Path) -> None:
    interpreter, once = tmp_path / "python", tmp_path / "once"
    once.touch()
    interpreter.write_text(f'#!/bin/sh\nrm "{once}" 2>/dev/null && kill -9 $$\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    assert run_probe(interpreter).package_version == run_probe(Path(sys.executable)).package_version
    assert not once.exists()
    interpreter.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(EmbedderError, match="cannot read the interpreter's"):
        run_probe(interpreter)
