"""The child that embeds a sample, and the one that reads the library, are killed: another one goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from campaigns import make_playbook, open_session, reported, single
from stub_child import stub_command

from ragops.builds.library import run_probe
from ragops.campaign.steps.embed import drain
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.campaign.steps.validate import validate
from ragops.campaign.steps.verify_build import compare_with_stored
from ragops.embedder.starting import STARTS_AGAIN
from ragops.errors import EmbedderDied, EmbedderError
from ragops.playbook.model import Source
from ragops.playbook.steps import ReseedQueue
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
