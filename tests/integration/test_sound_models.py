"""Models whose vectors are broken, all the same, or moved by their batch: real llama.cpp, real database."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns import execute, make_playbook, open_session, reported, rows, single
from conftest import write_corpus
from tiny_gguf import write_tiny_bert, write_tiny_decoder

from ragops.campaign.steps.embed import drain
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.campaign.steps.validate import validate
from ragops.campaign.steps.verify_build import VerifyBuildStep
from ragops.cli.campaign import prepare_plan
from ragops.embedder.client import Embedder
from ragops.embedder.config import embedder_config, probe_model
from ragops.errors import ModelUnusable, NegativeVerdict, RagopsError, UsageError
from ragops.fingerprint.against import capture_own
from ragops.fingerprint.batches import Batches
from ragops.fingerprint.queries import refuse_broken, refuse_unfitting
from ragops.fingerprint.verify import verify
from ragops.indexes.plan import VECTOR_TABLES
from ragops.playbook import Playbook
from ragops.playbook.model import Source
from ragops.playbook.steps import ReseedQueue, VerifyBuild
from ragops.probe.comparer import embedder_factory_of
from ragops.workers import fleet

# Stands in no canary text.
RARE = "verify"
RESEED = ReseedQueueStep(ReseedQueue(step="reseed_queue"))


@pytest.fixture(scope="module")
def rarely_broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that makes NaN of every text with one word that no test text has."""
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "rare.gguf", broken_words=[RARE])


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that makes NaN of every text with a common word."""
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "broken.gguf", broken_words=["the"])


def short_texts(folder: Path, documents: int) -> Path:
    """Texts of a few tokens, which a batch moves most."""
    folder.mkdir()
    for number in range(documents):
        (folder / f"{number:02}.txt").write_text(f"{number} tree", encoding="utf-8")
    return folder


def constant(folder: Path) -> Playbook:
    """A causal model that pools its first token, which is the same in every text."""
    model = write_tiny_decoder(folder / "decoder.gguf")
    return make_playbook(model=model).with_changes(model={"pooling": "cls"})


def test_a_broken_model_is_refused_by_everything_that_embeds(broken: Path, dsn18: str, tmp_path: Path) -> None:
    playbook = make_playbook(model=broken, source=Source(folder=write_corpus(tmp_path / "corpus", 12)))
    found = verify(playbook)
    assert (found.verdict, found.is_accepted, found.batches) == ("mismatch", False, None)
    assert "test texts have an unusable vector; the first is that of" in found.findings[0].message
    with pytest.raises(ModelUnusable, match="no usable vectors"):
        capture_own(playbook)
    with pytest.raises(ModelUnusable, match="no usable vectors"):
        embedder_factory_of(playbook)()
    with open_session(dsn18, playbook) as session:
        with pytest.raises(NegativeVerdict, match="no usable vectors") as refused:
            VerifyBuildStep(VerifyBuild(step="verify_build")).run(single(session))
        assert refused.value.where == str(broken)
        RESEED.run(single(session))
        with pytest.raises(ModelUnusable, match="no usable vectors"):
            drain(single(session))
        # Nothing was claimed, nothing failed.
        assert session.queue.counts()["pending"] == 12


def test_a_model_with_one_vector_for_all_texts_is_refused(tmp_path: Path) -> None:
    playbook = constant(tmp_path)
    found = verify(playbook)
    assert not found.is_accepted
    assert "different test texts have the same vector" in found.findings[0].message
    assert "pooling cls" in found.findings[0].hint
    with pytest.raises(ModelUnusable, match="no usable vectors"):
        capture_own(playbook)


def test_batch_mates_of_a_text_that_makes_nan_are_stored(rarely_broken: Path, dsn18: str, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 30)
    (corpus / "part0" / "bad.txt").write_text(f"please {RARE} this", encoding="utf-8")
    playbook = make_playbook(model=rarely_broken, source=Source(folder=corpus), workers={"batch_size": 100})
    with open_session(dsn18, playbook) as session:
        RESEED.run(single(session))
        result = drain(single(session))
        assert (result.completed, result.failed) == (30, 1)
        query = "SELECT file_path, last_error FROM files_queue WHERE status = 'failed'"
        assert rows(dsn18, query) == [("part0/bad.txt", "chunk 0: NaN at position 0 and 31 more not finite")]
        assert validate(single(session)).agreement.disagreeing == 0


def test_stored_texts_are_told_apart_by_why_they_have_no_vector(
    rarely_broken: Path, dsn18: str, tmp_path: Path
) -> None:
    playbook = make_playbook(model=rarely_broken, source=Source(folder=short_texts(tmp_path / "corpus", 8)))
    with open_session(dsn18, playbook) as session:
        RESEED.run(single(session))
        drain(single(session))
        # As another program may have stored them: this model makes NaN of one, the other is too long for it.
        for content, which in ((f"please {RARE}", "min"), ("word " * 200, "max")):
            execute(
                dsn18,
                f"UPDATE documents SET content = '{content}' WHERE id = (SELECT {which}(id) FROM documents)",
                f"UPDATE document_chunks SET content = '{content}'"
                f" WHERE document_id = (SELECT {which}(id) FROM documents)",
            )
        assert validate(single(session)).verdict == "fail"
        said = reported(session)
        assert "1 of 8 stored texts gets an unusable vector from this model (ragops verify): it counts as" in said
        assert "1 of 8 stored texts is longer than the 128 tokens that this model embeds whole: it counts" in said


def test_an_empty_stored_row_counts_as_disagreeing_where_a_text_may_have_no_token(
    dsn18: str, tmp_path: Path
) -> None:
    model = write_tiny_decoder(tmp_path / "decoder.gguf", bos=False)
    playbook = make_playbook(model=model, source=Source(folder=short_texts(tmp_path / "corpus", 8)))
    with open_session(dsn18, playbook) as session:
        RESEED.run(single(session))
        drain(single(session))
        execute(
            dsn18,
            "UPDATE documents SET content = '' WHERE id = (SELECT min(id) FROM documents)",
            "UPDATE document_chunks SET content = '' WHERE document_id = (SELECT min(id) FROM documents)",
        )
        result = validate(single(session))
        assert result.verdict == "fail"
        assert "1 of 8 stored texts has no token for this model: it counts as disagreeing" in reported(session)
        agreement = VerifyBuildStep(VerifyBuild(step="verify_build")).run(single(session))
        assert agreement.verification.is_accepted


def test_queries_that_do_not_fit_are_refused_with_the_plan(tiny_model: Path, dsn18: str, tmp_path: Path) -> None:
    playbook = make_playbook(model=tiny_model, source=Source(folder=short_texts(tmp_path / "corpus", 3)))
    long = playbook.with_changes(model={"query_prefix": "word " * 200})
    no_room = pytest.raises(UsageError, match="leave no room for a query")
    with open_session(dsn18, long) as session, no_room as refused:
        prepare_plan(session)
    assert refused.value.where == "model.query_prefix and model.query_suffix"
    asked = playbook.with_changes(validation={"queries": ("one", "word " * 200)})
    with pytest.raises(UsageError, match="a validation query is too long") as refused:
        probe_model(asked, look=lambda child: refuse_unfitting(child, asked))
    assert refused.value.where == "validation.queries[1]"


def test_a_query_that_makes_nan_is_named(rarely_broken: Path) -> None:
    playbook = make_playbook(model=rarely_broken).with_changes(validation={"queries": ("fine", f"please {RARE}")})
    with (
        pytest.raises(RagopsError, match="no usable vector") as refused,
        Embedder(embedder_config(playbook, threads=1)) as child,
    ):
        refuse_broken(child, playbook)
    assert refused.value.where == "validation.queries[1]"
    assert "'please verify': NaN at position 0" in (refused.value.actual or "")


@pytest.mark.parametrize("is_measured", [True, False])
def test_a_campaign_passes_below_the_noise_of_whole_batches(
    is_measured: bool, dsn18: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quantised model moves short texts in whole batches: they are embedded in smaller ones."""
    model = write_tiny_bert(tmp_path / "noisy.gguf", dimensions=64, layers=3, quantise=True, seed=3)
    corpus = short_texts(tmp_path / "corpus", 60)
    playbook = make_playbook(model=model, source=Source(folder=corpus), workers={"batch_size": 100})
    found = verify(playbook).batches
    assert found is not None and found.drift is not None
    limit = max(1e-6, found.drift / 100)
    strict = playbook.with_changes(validation={"max_distance": limit, "sample": 60})
    if not is_measured:
        monkeypatch.setattr(fleet, "measure_batches", lambda *_, **__: Batches(256))
    execute(dsn18, *(f"ALTER TABLE {t} ALTER COLUMN embedding TYPE vector(64)" for t in VECTOR_TABLES))
    with open_session(dsn18, strict) as session:
        RESEED.run(single(session))
        batches = drain(single(session)).batches
        result = validate(single(session))
    assert batches is not None
    assert bool(batches.short_tokens) == is_measured
    # Without the measurement it is the campaign that fails its own validation.
    assert result.verdict == ("pass" if is_measured else "fail"), result.agreement
