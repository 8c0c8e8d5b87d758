"""Estimate how long the demo embeds: some of its documents are embedded, and the rest is taken to be like them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ragops.embedder.client import Embedder
from ragops.embedder.config import side_threads
from ragops.playbook.model import Playbook
from ragops.workers.sizing import size_fleet

SAMPLED = 8
# A decoder of some hundred million weights needs seconds for one long text: then fewer are enough.
BUDGET_S = 3.0


def estimate(embedder: Embedder, playbook: Playbook, corpus: Path, locations: Sequence[str]) -> float | None:
    """Return about how many seconds one pass over the documents takes the fleet; None if none can be measured."""
    step = max(1, len(locations) // SAMPLED)
    most, characters = embedder.model.max_tokens, 0
    began = time.monotonic()
    for location in locations[::step][:SAMPLED]:
        text = (corpus / location).read_text(encoding="utf-8")
        ids = embedder.tokenise([text], suffix=playbook.model.document_suffix)[0]
        # The start of a long text is enough to measure.
        embedder.embed_tokens([ids[:most]])
        characters += len(text) * min(len(ids), most) // len(ids)
        if time.monotonic() - began > BUDGET_S:
            break
    seconds = time.monotonic() - began
    if not characters:
        return None
    total = sum((corpus / location).stat().st_size for location in locations)
    sizing = size_fleet(playbook)
    # Threads of one process wait for each other, so that more of them gain less: an estimate from the short side.
    return seconds * total / characters * side_threads() / (sizing.workers * sizing.threads)


def in_words(seconds: float) -> str:
    """Return a duration as people say it."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} minutes"
