"""The demo: the incident with real parts on the embedded server — broken, found out, realigned.

It runs `realign.yaml` through the same code as `ragops reset`. What it leaves behind (corpus, model,
variables of the playbook) is what later commands without a DSN work on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragops.campaign import run as campaign
from ragops.campaign.run import CampaignResult
from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.registry import step_of
from ragops.campaign.steps.validate import ValidationResult, validate
from ragops.demo.corpus import write_stdlib_corpus
from ragops.demo.estimate import estimate, in_words
from ragops.demo.model import minilm_gguf
from ragops.demo.ownership import own_campaigns, refuse_foreign_data
from ragops.documents.walking import walk_folder
from ragops.embedder.config import probe_model
from ragops.paths import cache_folder, data_folder, demo_file, with_defaults
from ragops.playbook import load_playbook
from ragops.postgres.archive import drop_archives
from ragops.postgres.connection import Target, connect
from ragops.postgres.setup import drop_tables, ensure_pgvector, initialise, plan_setup
from ragops.quality.validation import self_retrieval
from ragops.quality.vectors import normalize
from ragops.reporter import Reporter
from ragops.session import Session
from ragops.workers.state import Stop

QUERIES = 25
WORDS_PER_QUERY = 8
APPLICATION_THRESHOLD = 0.5
PLAYBOOK = "realign.yaml"


@dataclass(frozen=True, slots=True)
class Query:
    """A query with the location of the document that it was taken from."""

    text: str
    location: str


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What an application gets for the queries."""

    queries: int
    rows_under: Mapping[str, float]
    """Rows per query, by threshold."""
    queries_with_a_row_under: Mapping[str, int]
    at_1: float
    """Share of the queries whose own document is the nearest; `at_10`: among the ten nearest."""
    at_10: float

    def to_json(self) -> dict[str, object]:
        return {
            "queries": self.queries,
            "rows_under": dict(self.rows_under),
            "queries_with_a_row_under": dict(self.queries_with_a_row_under),
            "self_retrieval": {"at_1": self.at_1, "at_10": self.at_10},
        }


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The campaign's result, and retrieval before and after it."""

    result: CampaignResult
    before: Retrieval
    before_verdict: str
    after: Retrieval
    documents: int
    corpus: Path
    model: Path
    seconds: float

    @property
    def docs_per_s(self) -> float | None:
        """Documents per second over the campaign's embed steps."""
        effects = [step.effect or {} for step in self.result.steps if step.verb == "embed"]
        seconds = sum(_figure(effect.get("seconds")) for effect in effects)
        return sum(_figure(effect.get("completed")) for effect in effects) / seconds if seconds else None

    @property
    def gate(self) -> int:
        """Documents at the first validation."""
        step = next((step for step in self.result.steps if step.verb == "validate"), None)
        return step.recorded_number("documents") if step else 0

    def to_json(self) -> dict[str, object]:
        return {
            **self.result.to_json(),
            "before": self.before.to_json(),
            "before_verdict": self.before_verdict,
            "after": self.after.to_json(),
            "documents": self.documents,
            "docs_per_s": self.docs_per_s,
            "corpus": str(self.corpus),
            "model": str(self.model),
            "seconds": self.seconds,
        }


def _figure(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def run_demo(
    target: Target,
    *,
    reporter: Reporter,
    stop: Stop,
    documents: int,
    model: Path | None = None,
    workers: int | None = None,
) -> DemoResult:
    """Stage the incident, show it, run the campaign, show the difference.

    Raises RagopsError when the embedded database holds documents that are not the demo's.
    """
    started = time.monotonic()
    corpus = data_folder() / "demo" / "corpus"
    reporter.info(f"corpus: docstrings of this Python's standard library, in {corpus}")
    # What an earlier demo may have stored: the corpus is written anew where the number of documents is another.
    earlier = frozenset(walk_folder(corpus, ["**/*.txt"])) if corpus.is_dir() else frozenset()
    written = write_stdlib_corpus(corpus, documents=documents)
    model_file = model.absolute() if model else minilm_gguf(cache_folder(), progress=reporter.info)
    reporter.info(f"model: {model_file}")
    variables = _variables(written, corpus=corpus, model=model_file, workers=workers)
    loaded = load_playbook(PLAYBOOK, environment=with_defaults(variables, os.environ))
    # What the demo shows of speed is that of embedding, not of a cache that an earlier demo has filled.
    playbook = loaded.with_changes(workers={"cache_mib": 0})
    # The types of pgvector can be registered only once the extension is there.
    with connect(target, with_vector=False) as connection:
        ensure_pgvector(connection, target)
    with connect(target) as connection:
        session = Session.on(connection, target, playbook, reporter=reporter, stop=stop)
        refuse_foreign_data(session, corpus, earlier)
        _prepare_database(session, corpus)
        demo_file().write_text(json.dumps({"variables": variables}, indent=2), encoding="utf-8")
        probes = _probes(corpus, written)
        _say_how_long(session, corpus)
        _stage(session, written)
        before = _measure(session, probes)
        diagnosis = validate(SingleCommand(session), seed=0.0)
        _report(reporter, before, diagnosis)
        plan = campaign.plan_campaign(session, model=probe_model(playbook), items=written)
        result = campaign.start(session, plan)
        after = _measure(session, probes)
    return DemoResult(
        result=result,
        before=before,
        before_verdict=diagnosis.verdict,
        after=after,
        documents=written,
        corpus=corpus,
        model=model_file,
        seconds=round(time.monotonic() - started, 1),
    )


def _variables(documents: int, *, corpus: Path, model: Path, workers: int | None) -> dict[str, str]:
    """The playbook's variables, its gates scaled from a million documents to this corpus."""
    gate = min(1000, max(10, documents // 15))
    variables = {
        "RAGOPS_CORPUS": str(corpus),
        "RAGOPS_MODEL": str(model),
        "RAGOPS_VALIDATE_AFTER": str(gate),
        "RAGOPS_INDEX_AFTER": str(max(gate + 1, min(100_000, documents // 10))),
    }
    if workers is not None:
        variables["RAGOPS_WORKERS"] = str(workers)
    return variables


def _prepare_database(session: Session, corpus: Path) -> None:
    """Make five empty tables of the model's dimensions, without indexes, and end an unfinished campaign."""
    tables, connection = session.playbook.tables, session.connection
    dimensions = probe_model(session.playbook).dimensions
    drop_tables(connection, tables)
    initialise(connection, session.target, plan_setup(connection, tables, dimensions=lambda: dimensions))
    campaign.give_up_unfinished(session)
    # Archives of earlier demos hold nothing that the corpus does not.
    drop_archives(connection, campaigns=own_campaigns(connection, corpus))


def _say_how_long(session: Session, corpus: Path) -> None:
    """Say about how long the demo takes; with a large model it is hours."""
    locations = list(walk_folder(corpus, ["**/*.txt"]))
    seconds = session.with_embedder(lambda embedder: estimate(embedder, session.playbook, corpus, locations))
    if seconds is not None:
        session.reporter.info(
            f"embedding takes about {in_words(2 * seconds)} on this machine: all documents for the incident, and "
            f"again in the campaign (fewer documents: ragops demo --docs NUMBER)"
        )


def _stage(session: Session, documents: int) -> None:
    """Fill the tables with vectors of another space: the same model, CLS instead of mean pooling."""
    session.reporter.info(
        f"staging the incident: {documents:,} documents with vectors of another space (CLS pooling)"
    )
    staged = SingleCommand(session.with_playbook(session.playbook.with_changes(model={"pooling": "cls"})))
    steps = {settings.step: step_of(settings) for settings in session.playbook.steps}
    for verb in ("reseed_queue", "embed", "rebuild_indexes"):
        steps[verb].run(staged)


def _probes(corpus: Path, documents: int) -> list[Query]:
    """Queries spread over the corpus: the first words of a docstring, without the name above it."""
    step = max(1, documents // QUERIES)
    chosen = [location for place, location in enumerate(walk_folder(corpus, ["**/*.txt"])) if place % step == 0]
    probes = []
    for location in chosen[:QUERIES]:
        text = (corpus / location).read_text(encoding="utf-8").split("\n", 2)[-1]
        probes.append(Query(" ".join(text.split()[:WORDS_PER_QUERY]), location))
    return probes


def _measure(session: Session, probes: Sequence[Query]) -> Retrieval:
    """Measure what an application gets: rows under each threshold for the queries, self-retrieval."""
    reader, thresholds = session.reader, session.playbook.validation.thresholds
    model = session.playbook.model
    texts = [model.query_prefix + probe.text for probe in probes]
    vectors = normalize(
        session.with_embedder(lambda embedder: embedder.embed(texts, suffix=model.query_suffix).vectors)
    )
    stats = [reader.distance_stats(vector, thresholds=thresholds) for vector in vectors]
    ranks = [
        reader.rank_of_location(vector, probe.location) for probe, vector in zip(probes, vectors, strict=True)
    ]
    names = [f"{threshold:g}" for threshold in thresholds]
    retrieved = self_retrieval(ranks, (1, 10))
    return Retrieval(
        queries=len(probes),
        rows_under={name: sum(s.under[i] for s in stats) / len(stats) for i, name in enumerate(names)},
        queries_with_a_row_under={name: sum(1 for s in stats if s.under[i]) for i, name in enumerate(names)},
        at_1=retrieved[1],
        at_10=retrieved[10],
    )


def _report(reporter: Reporter, before: Retrieval, diagnosis: ValidationResult) -> None:
    rows = before.rows_under[f"{APPLICATION_THRESHOLD:g}"]
    near = before.queries_with_a_row_under["0.7"]
    reporter.info(
        f"an application with a distance threshold of {APPLICATION_THRESHOLD:g} finds {rows:.1f} rows per query; "
        f"the runbook's criterion (a row under 0.7) is met by {near} of {before.queries} queries"
    )
    decisive = diagnosis.checks[0]
    reporter.info(f"ragops validate: {diagnosis.verdict.upper()}, {decisive.id}: {decisive.measured}")
