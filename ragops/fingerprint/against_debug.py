"""Compare the workers with a debug endpoint: it answers distances, never vectors."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragops.errors import UsageError
from ragops.findings import Finding
from ragops.playbook.endpoints import masked_url
from ragops.playbook.model import DebugReference
from ragops.postgres.reader import Reader
from ragops.quality.spaces import Verdict

FIGURES = ("distance_min", "distance_max", "distance_avg")

Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class DebugComparison:
    """The same three distances of one query, measured here and reported by the backend."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    reference: str
    query: str
    own: Figures
    theirs: Figures
    bound: float
    """What a drift of `build.max_drift` explains at most."""

    def distances(self) -> dict[str, object]:
        return {"query": self.query, "own": self.own, "reference": self.theirs, "bound": self.bound}


def compare_with_debug(
    settings: DebugReference,
    *,
    embed_query: Callable[[str], NDArray[np.float32]],
    reader: Reader,
    max_drift: float,
) -> DebugComparison:
    """Ask the backend for its distances and measure the same ones here.

    `embed_query` returns the unit vector, shape (d,), of a query as the workers embed it.

    Two unit vectors at cosine distance δ lie at most sqrt(2 δ) apart, and so do their distances to any
    stored row: a figure that differs by more proves a drift above `max_drift`.

    Raises UsageError without the token's variable, RagopsError for a fault of the endpoint.
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
    vector = embed_query(answer.query)
    stats = reader.distance_stats(vector, thresholds=())
    own: Figures = dict(zip(FIGURES, (stats.minimum, stats.maximum, stats.mean), strict=True))
    theirs: Figures = {name: getattr(answer, name) for name in FIGURES}
    bound = math.sqrt(2 * max_drift)
    findings: list[Finding] = []
    if answer.dimensions not in (None, vector.size):
        message = f"the backend's query has {answer.dimensions} dimensions, this model makes {vector.size}"
        findings.append(Finding("dimension", "error", message, "name the backend's model in model.file"))
    if answer.problem:
        findings.append(Finding("backend-distance", "error", answer.problem, "ragops validate"))
    pairs = [(own[name], theirs[name]) for name in FIGURES]
    gaps = [abs(here - there) for here, there in pairs if here is not None and there is not None]
    if gaps and max(gaps) > bound:
        message = (
            f"distances differ by up to {max(gaps):.3g}; a drift of {max_drift:g} explains at most {bound:.3g}"
        )
        hint = "compare pooling, prefixes and the model on both sides"
        findings.append(Finding("distances", "error", message, hint))
    verdict: Verdict = "equivalent"
    if findings or not gaps:
        verdict = "divergent"
    elif max(gaps) == 0:
        verdict = "identical"
    return DebugComparison(verdict, tuple(findings), masked_url(settings.url), answer.query, own, theirs, bound)
