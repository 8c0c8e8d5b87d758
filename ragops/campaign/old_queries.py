"""Ask the old side of a comparison: whether an endpoint made the old vectors, and its vectors of queries."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragops.errors import ReferenceFailed
from ragops.playbook.model import OpenAIReference
from ragops.postgres.comparison import DrawnRow
from ragops.quality.drift import cosine_distances

# Rows whose text is embedded again to find out whose vectors the old ones are, and how near these must be.
# Measured: builds of one model differ by up to 6e-4, other weights by 2e-3, another pooling by 0.5 on average.
PROBED, NEAR = 5, 0.01
# A longer text may have been cut.
PROBE_CHARACTERS = 400


def old_query_vectors(
    settings: OpenAIReference, texts: Sequence[str], rows: Sequence[DrawnRow]
) -> tuple[NDArray[np.float32] | None, str]:
    """Return the endpoint's vectors of the queries if it made the old column's vectors, and why not otherwise."""
    probes = sorted((row for row in rows if row.old is not None), key=lambda row: len(row.text))[:PROBED]
    probes = [row for row in probes if len(row.text) <= PROBE_CHARACTERS]
    if not probes:
        return None, "the rows are too long to tell whether reference.openai made the old vectors"
    key = os.environ.get(settings.api_key_env) if settings.api_key_env else None
    from ragops.references.openai import OpenAIEndpoint  # with httpx, which other comparisons need not

    try:
        with OpenAIEndpoint(settings, api_key=key) as endpoint:
            again = endpoint.embed([row.text for row in probes])
            stored = [row.old for row in probes if row.old is not None]
            if any(vector.size != again.shape[1] for vector in stored):
                return None, "reference.openai makes vectors of other dimensions than the old column has"
            worst = float(np.max(cosine_distances(np.stack(stored), again)))
            if not worst <= NEAR:
                return None, f"reference.openai did not make the old vectors (they lie up to {worst:.2g} apart)"
            return endpoint.embed(texts), ""
    except ReferenceFailed as error:
        return None, f"reference.openai cannot be asked: {error.what}"
