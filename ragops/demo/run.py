"""The demo: the incident with real parts on the embedded server — broken, found out, realigned.

It runs `realign.yaml` through the same code as `ragops reset`. What it leaves behind (corpus, model,
variables of the playbook) is what later commands without a DSN work on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragops.actions import DropIndex
from ragops.campaign import run as campaign
from ragops.campaign.context import StepContext
from ragops.campaign.steps import embed, empty_tables, rebuild_indexes, reseed_queue, validate, verify_build
from ragops.demo.corpus import write_stdlib_corpus
from ragops.demo.model import minilm_gguf
from ragops.documents.sources import walk_folder
from ragops.embedder.client import Embedder
from ragops.embedder.config import embedder_config, side_threads
from ragops.errors import RagopsError
from ragops.facts import vector_dimensions
from ragops.indexes.plan import droppable_indexes
from ragops.paths import cache_folder, data_folder, demo_file, with_defaults
from ragops.playbook import Playbook, load_playbook
from ragops.playbook.steps import EmptyTables, RebuildIndexes
from ragops.postgres.connection import Target, connect
from ragops.postgres.ddl import drop_archives, sql_of
from ragops.postgres.reader import Reader
from ragops.postgres.setup import drop_tables, ensure_pgvector, initialise, plan_setup
from ragops.quality.validation import self_retrieval
from ragops.quality.vectors import normalize
from ragops.reporter import Reporter
from ragops.workers.state import Stop

QUERIES = 25
WORDS_A_QUERY = 8
APPLICATION_THRESHOLD = 0.5
PLAYBOOK = "realign.yaml"


@dataclass(frozen=True, slots=True)
class Probe:
    """A query with the location of the document that it was taken from."""

    text: str
    location: str


def run_demo(
    target: Target,
    *,
    reporter: Reporter,
    stop: Stop,
    documents: int,
    model: Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Stage the incident, show it, run the campaign, show the difference.

    Raises RagopsError when the embedded database holds documents that are not the demo's.
    """
    started = time.monotonic()
    corpus = data_folder() / "demo" / "corpus"
    reporter.info(f"corpus: docstrings of this Python's standard library, in {corpus}")
    written = write_stdlib_corpus(corpus, documents=documents)
    model_file = model.absolute() if model else minilm_gguf(cache_folder(), progress=reporter.info)
    reporter.info(f"model: {model_file}")
    variables = _variables(written, corpus=corpus, model=model_file, workers=workers)
    loaded = load_playbook(PLAYBOOK, environment=with_defaults(variables, os.environ))
    # What the demo shows of speed is that of embedding, not of a cache that an earlier demo has filled.
    playbook = loaded.with_changes(workers={"cache_mib": 0})
    with _open(target, playbook, reporter=reporter, stop=stop) as context:
        _prepare_database(context, corpus)
        demo_file().write_text(json.dumps({"variables": variables}, indent=2), encoding="utf-8")
        probes = _probes(corpus, written)
        _stage(context, written)
        before = _look(context, probes)
        found_out = validate.run(context, seed=0.0)
        _tell(reporter, before, found_out)
        plan = campaign.plan_campaign(context, model=verify_build.probe_model(playbook), items=written)
        result = campaign.start(context, plan)
        after = _look(context, probes)
    return {
        **result,
        "before": before,
        "before_verdict": found_out["verdict"],
        "after": after,
        "documents": written,
        "docs_per_s": _docs_per_s(result),
        "corpus": str(corpus),
        "model": str(model_file),
        "seconds": round(time.monotonic() - started, 1),
    }


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


@contextmanager
def _open(target: Target, playbook: Playbook, *, reporter: Reporter, stop: Stop) -> Iterator[StepContext]:
    with connect(target, with_vector=False) as connection:
        ensure_pgvector(connection, target)
    with connect(target) as connection:
        yield StepContext(target, playbook, connection, reporter=reporter, stop=stop)


def _prepare_database(context: StepContext, corpus: Path) -> None:
    """Five empty tables of the model's dimensions, and no unfinished campaign."""
    tables = context.playbook.tables
    _refuse_foreign_data(context, corpus)
    dimensions = verify_build.probe_model(context.playbook).dimensions
    documents = context.facts().tables["documents"]
    if documents is not None and vector_dimensions(documents, "embedding") != dimensions:
        drop_tables(context.connection, tables)
    initialise(
        context.connection,
        context.target,
        plan_setup(context.connection, tables, dimensions=lambda: dimensions),
    )
    campaign.give_up_unfinished(context)
    for index in droppable_indexes(context.facts()):
        context.connection.execute(sql_of(DropIndex(index)))
    empty_tables.run(context, EmptyTables(step="empty_tables", archive=False))
    # Archives of earlier demos hold nothing that the corpus does not.
    drop_archives(context.connection)


def _refuse_foreign_data(context: StepContext, corpus: Path) -> None:
    documents = context.facts(exact=True).tables["documents"]
    if documents is None or documents.rows == 0:
        return
    row = campaign.latest_row(context)
    source = row.playbook.get("source", {}).get("folder") if row else None
    if not demo_file().is_file() or source not in (None, str(corpus)):
        raise RagopsError(
            "the embedded database holds documents that the demo did not make; nothing was changed",
            where=context.target.label,
            actual=f"{documents.rows:,} documents" + (f" from {source}" if source else ""),
            hint="RAGOPS_DATA_DIR=NEW_FOLDER ragops demo",
        )


def _stage(context: StepContext, documents: int) -> None:
    """Fill the tables with vectors of another space: the same model, CLS instead of mean pooling."""
    context.reporter.info(
        f"staging the incident: {documents:,} documents with vectors of another space (CLS pooling)"
    )
    stored = context.playbook
    context.playbook = stored.with_changes(model={"pooling": "cls"})
    reseed_queue.run(context)
    embed.run(context)
    rebuild_indexes.run(context, RebuildIndexes(step="rebuild_indexes"))
    context.playbook = stored


def _probes(corpus: Path, documents: int) -> list[Probe]:
    """Queries spread over the corpus: the first words of a docstring, without the name above it."""
    step = max(1, documents // QUERIES)
    chosen = [location for place, location in enumerate(walk_folder(corpus, ["**/*.txt"])) if place % step == 0]
    probes = []
    for location in chosen[:QUERIES]:
        text = (corpus / location).read_text(encoding="utf-8").split("\n", 2)[-1]
        probes.append(Probe(" ".join(text.split()[:WORDS_A_QUERY]), location))
    return probes


def _look(context: StepContext, probes: Sequence[Probe]) -> dict[str, Any]:
    """What an application sees: rows under each threshold for the queries, self-retrieval."""
    reader = Reader(context.connection, context.playbook.tables)
    thresholds = context.playbook.validation.thresholds
    prefix = context.playbook.model.query_prefix
    with Embedder(embedder_config(context.playbook, threads=side_threads())) as embedder:
        vectors = normalize(embedder.embed([prefix + probe.text for probe in probes]).vectors)
    stats = [reader.distance_stats(vector, thresholds=thresholds) for vector in vectors]
    ranks = [
        reader.rank_of_location(vector, probe.location) for probe, vector in zip(probes, vectors, strict=True)
    ]
    found = self_retrieval(ranks, (1, 10))
    return {
        "queries": len(probes),
        "rows_under": {
            f"{threshold:g}": sum(stat.under[place] for stat in stats) / len(stats)
            for place, threshold in enumerate(thresholds)
        },
        "queries_with_a_row_under": {
            f"{threshold:g}": sum(1 for stat in stats if stat.under[place])
            for place, threshold in enumerate(thresholds)
        },
        "self_retrieval": {"at_1": found[1], "at_10": found[10]},
    }


def _tell(reporter: Reporter, before: dict[str, Any], found_out: dict[str, Any]) -> None:
    seen = before["rows_under"][f"{APPLICATION_THRESHOLD:g}"]
    near = before["queries_with_a_row_under"]["0.7"]
    reporter.info(
        f"an application with a distance threshold of {APPLICATION_THRESHOLD:g} finds {seen:.1f} rows a query; "
        f"the procedure's criterion (a row under 0.7) is met by {near} of {before['queries']} queries"
    )
    decisive = found_out["checks"][0]
    reporter.info(f"ragops validate: {found_out['verdict'].upper()}, {decisive['id']}: {decisive['measured']}")


def _docs_per_s(result: dict[str, Any]) -> float | None:
    """Documents a second over the campaign's embed steps."""
    effects = [step["effect"] or {} for step in result["steps"] if step["name"] == "embed"]
    seconds = sum(effect.get("seconds", 0) for effect in effects)
    return sum(effect.get("completed", 0) for effect in effects) / seconds if seconds else None
