"""`ragops tune` on a small corpus: the table, the stored choice, and the fleet that takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns import make_playbook, open_session
from conftest import write_corpus

from ragops.errors import NegativeVerdict, RagopsError
from ragops.paths import tuning_file
from ragops.playbook import Playbook
from ragops.playbook.model import Build, Source
from ragops.tuning.run import tune
from ragops.workers.sizing import size_fleet
from ragops.workers.tuned import Tuned, tuned_for


@pytest.fixture
def playbook(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Playbook:
    monkeypatch.setenv("RAGOPS_DATA_DIR", str(tmp_path / "data"))
    corpus = write_corpus(tmp_path / "corpus", 40)
    planned = {"count": "planned", "threads": None}
    return make_playbook(model=tiny_model, source=Source(folder=corpus), workers=planned)


def test_the_fastest_shape_is_stored_and_taken(dsn18: str, playbook: Playbook) -> None:
    with open_session(dsn18, playbook) as session:
        result = tune(session, seconds=2)
    accepted = [trial for trial in result.trials if not trial.refused]
    best = max(accepted, key=lambda trial: trial.tokens_per_s)
    chosen = result.chosen
    assert chosen == Tuned(best.workers, best.threads, best.tokens_per_batch, best.repack)
    assert result.stored_in == str(tuning_file())
    assert result.texts == 40
    assert tuned_for(playbook) == chosen
    shape = size_fleet(playbook)
    assert (shape.workers, shape.threads, shape.tokens_per_batch) == (
        chosen.workers,
        chosen.threads,
        chosen.tokens_per_batch,
    )
    assert shape.why.startswith("tuned")


def test_a_dry_run_stores_nothing(dsn18: str, playbook: Playbook) -> None:
    with open_session(dsn18, playbook) as session:
        assert tune(session, seconds=1, save=False).stored_in is None
    assert not tuning_file().exists()


def test_settings_that_move_vectors_are_refused(dsn18: str, playbook: Playbook) -> None:
    strict = playbook.model_copy(update={"build": Build(max_drift=1e-12)})
    with open_session(dsn18, strict) as session, pytest.raises(NegativeVerdict, match="every setting") as caught:
        tune(session, seconds=1)
    assert caught.value.exit_code == 3
    assert not tuning_file().exists()


def test_a_corpus_of_too_few_texts(dsn18: str, playbook: Playbook, tmp_path: Path) -> None:
    few = playbook.model_copy(update={"source": Source(folder=write_corpus(tmp_path / "few", 3))})
    with open_session(dsn18, few) as session, pytest.raises(RagopsError, match="too few texts"):
        tune(session, seconds=1)
