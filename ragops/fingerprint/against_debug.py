"""Compares the workers with a debug endpoint like the procedure's: it answers distances, never vectors."""

from __future__ import annotations

import math
import os
from typing import Any

from ragops.campaign.context import Effect, StepContext
from ragops.embedder.client import Embedder
from ragops.embedder.config import embedder_config, side_threads
from ragops.errors import UsageError
from ragops.playbook.model import DebugReference
from ragops.postgres.reader import Reader
from ragops.quality.vectors import normalize

FIGURES = ("distance_min", "distance_max", "distance_avg")


def add_debug_comparison(effect: Effect, context: StepContext, settings: DebugReference) -> None:
    """Ask the backend, measure the same distances here, and put verdict, drift and findings into `effect`.

    Two unit vectors at cosine distance δ lie at most sqrt(2 δ) apart, and so do their distances to any
    stored row: a figure that differs by more proves a drift above the playbook's `build.max_drift`.
    Raises RagopsError for a fault of the endpoint.
    """
    from ragops.references.debug import DebugEndpoint

    token = os.environ.get(settings.token_env) if settings.token_env else None
    if settings.token_env and token is None:
        raise UsageError(
            "the debug endpoint's token is not set",
            where="reference.debug.token_env",
            expected=f"the environment variable {settings.token_env}",
        )
    answer = DebugEndpoint(settings, token=token).ask()
    own, dimensions = _own_distances(context, answer.query)
    bound = math.sqrt(2 * context.playbook.build.max_drift)
    theirs = {name: getattr(answer, name) for name in FIGURES}
    findings: list[dict[str, Any]] = []
    if answer.dimensions not in (None, dimensions):
        message = f"the backend's query has {answer.dimensions} dimensions, this model makes {dimensions}"
        findings.append(_finding("dimension", message, "name the backend's model in model.file"))
    if answer.problem:
        findings.append(_finding("backend-distance", answer.problem, "ragops validate"))
    gaps = [abs(own[name] - theirs[name]) for name in FIGURES if None not in (own[name], theirs[name])]
    if gaps and max(gaps) > bound:
        message = f"distances differ by up to {max(gaps):.3g}; a drift of {context.playbook.build.max_drift:g} "
        message += f"explains at most {bound:.3g}"
        findings.append(_finding("distances", message, "compare pooling, prefixes and the model on both sides"))
    is_same = bool(gaps) and max(gaps) == 0 and not findings
    verdict = "divergent" if findings or not gaps else "identical" if is_same else "equivalent"
    effect["findings"] = [*findings, *effect["findings"]]
    effect |= {
        "verdict": verdict,
        "reference": settings.url,
        "drift": None,
        "distances": {"query": answer.query, "own": own, "reference": theirs, "bound": bound},
    }


def _own_distances(context: StepContext, query: str) -> tuple[dict[str, float | None], int]:
    """Min, max and mean distance of the query to the stored documents, and the model's dimensions."""
    with Embedder(
        embedder_config(context.playbook, threads=side_threads()), command=context.embedder_command
    ) as embedder:
        raw = embedder.embed([context.playbook.model.query_prefix + query]).vectors
        dimensions = embedder.model.dimensions
    stats = Reader(context.connection, context.playbook.tables).distance_stats(normalize(raw)[0], thresholds=())
    figures = (stats.minimum, stats.maximum, stats.mean)
    return dict(zip(FIGURES, figures, strict=True)), dimensions


def _finding(id: str, message: str, hint: str) -> dict[str, Any]:
    return {"id": id, "severity": "error", "message": message, "hint": hint}
