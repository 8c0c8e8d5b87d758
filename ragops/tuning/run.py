"""tune: measure shapes of the fleet on the corpus itself, and keep the best for this host and build."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from ragops.campaign.context import StepContext
from ragops.campaign.steps.embed import use_queue_source
from ragops.documents.errors import Unreadable
from ragops.embedder.client import Embedder, TokenIds
from ragops.embedder.config import checked_sha256, embedder_config
from ragops.errors import NegativeVerdict, RagopsError
from ragops.host import read_limits
from ragops.postgres.queue import Item, Queue
from ragops.tuning.trials import Trial, best_of, measure, shapes_to_try
from ragops.workers.sources import Documents, Preparer, locations_of
from ragops.workers.tuned import Tuned, save_choice

# Of a corpus of a million files only the first locations are listed: enough to draw from.
LISTED = 20_000
DRAWN = 400
TOKENS = 60_000
READ_AT_ONCE = 50
FEWEST_TEXTS = 8


def run(context: StepContext, *, seconds: float, save: bool = True) -> dict[str, Any]:
    """Measure within about `seconds` and store the choice.

    Raises NegativeVerdict when every setting moves vectors too far, RagopsError when the corpus has too few
    texts, and as Embedder does.
    """
    playbook = context.playbook
    checked_sha256(playbook)
    use_queue_source(context, Queue(context.connection, playbook.tables))
    config = embedder_config(playbook, threads=1)
    texts = _sample(context)
    assert config.model.is_file(), "checked_sha256 has read it"

    def start(shape: Tuned) -> Embedder:
        changed = embedder_config(
            playbook, threads=shape.threads, tokens_per_batch=shape.tokens_per_batch, repack=shape.repack
        )
        return Embedder(changed, command=context.embedder_command)

    shapes = shapes_to_try(read_limits(), model_bytes=config.model.stat().st_size)
    limit = playbook.build.max_drift
    try:
        trials = measure(start, texts, shapes, limit=limit, seconds=seconds, show=_progress(context))
    finally:
        context.reporter.end_progress()
    return _result(context, trials, texts, limit=limit, save=save)


def _progress(context: StepContext) -> Any:
    return lambda done, total: context.reporter.progress("measuring", done, total)


def _result(
    context: StepContext, trials: Sequence[Trial], texts: Sequence[TokenIds], *, limit: float, save: bool
) -> dict[str, Any]:
    tuned = best_of(trials)
    if tuned is None:
        raise NegativeVerdict(
            "every setting moves vectors by more than the limit; nothing was stored",
            actual=f"drift {min(t.drift for t in trials if not math.isnan(t.drift)):.1e} and more",
            expected=f"at most {limit:.1e} (build.max_drift)",
            hint="ragops verify   shows what this build is",
        )
    return {
        "chosen": dataclasses.asdict(tuned),
        "stored_in": str(save_choice(context.playbook, tuned)) if save else None,
        "texts": len(texts),
        "tokens": sum(map(len, texts)),
        "max_drift": limit,
        "trials": [_as_dict(trial) for trial in trials],
    }


def _as_dict(trial: Trial) -> dict[str, Any]:
    """As JSON, which knows no NaN."""
    return {**dataclasses.asdict(trial), "drift": None if math.isnan(trial.drift) else trial.drift}


def _sample(context: StepContext) -> list[TokenIds]:
    """Chunks of documents drawn at random, as token ids; the same ones in every run."""
    locations = list(islice(locations_of(context.playbook.source, context.connect), LISTED))
    draw = random.Random(0)
    drawn = draw.sample(locations, min(DRAWN, len(locations)))
    config = dataclasses.replace(embedder_config(context.playbook, threads=1), vocab_only=True)
    with Embedder(config, command=context.embedder_command) as child:
        preparer = Preparer(context.playbook, max_tokens=child.model.max_tokens, count_tokens=child.count_tokens)
        texts: list[TokenIds] = []
        for chunk in _chunks(context, preparer, drawn):
            texts += child.tokenise([preparer.prefix + chunk])
            if sum(map(len, texts)) >= TOKENS:
                break
    if len(texts) < FEWEST_TEXTS:
        raise RagopsError(
            "the corpus has too few texts to measure with",
            actual=f"{len(texts)} texts in {len(drawn)} documents",
            expected=f"at least {FEWEST_TEXTS}",
            hint="check source: in the playbook",
        )
    draw.shuffle(texts)
    return texts


def _chunks(context: StepContext, preparer: Preparer, locations: Sequence[str]) -> Iterator[str]:
    documents = Documents(context.playbook.source)
    for start in range(0, len(locations), READ_AT_ONCE):
        items = [Item(None, location) for location in locations[start : start + READ_AT_ONCE]]
        texts = documents.fetch(context.connection, items)
        for item in items:
            read = documents.extract(item, texts)
            if isinstance(read, Unreadable):
                continue
            try:
                chunks = preparer.chunk(read.text, markdown=read.media_type == "text/markdown")
            except Unreadable:
                continue  # `embed` will name it
            yield from (chunk.text for chunk in chunks)
