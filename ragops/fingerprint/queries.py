"""Refuse queries that the model cannot embed whole, before a campaign changes anything."""

from __future__ import annotations

from collections.abc import Mapping

from ragops.embedder.client import Embedder
from ragops.errors import RagopsError, UsageError
from ragops.playbook.model import Playbook
from ragops.quality.soundness import shown
from ragops.quality.vectors import check_vectors


def refuse_unfitting(embedder: Embedder, playbook: Playbook) -> None:
    """Raise UsageError if the query prefix leaves no room, or one of `validation.queries` does not fit.

    A child that has loaded the vocabulary alone is enough.
    """
    prefix, most = playbook.model.query_prefix, embedder.model.max_tokens
    queries = playbook.validation.queries
    texts = [prefix, *(prefix + query for query in queries)]
    base, *lengths = embedder.count_tokens(texts, suffix=playbook.model.query_suffix)
    if base >= most:
        raise UsageError(
            "prefix and special tokens leave no room for a query",
            where="model.query_prefix and model.query_suffix",
            actual=f"{base} tokens of prefix, suffix and special tokens",
            expected=f"fewer than {most} tokens",
            hint="shorten the prefix" if prefix else "raise model.parameters.n_ctx",
        )
    for place, tokens in enumerate(lengths):
        if 0 < tokens <= most:
            continue
        raise UsageError(
            "a validation query is too long for the model" if tokens else "a validation query has no token",
            where=f"validation.queries[{place}]",
            actual=f"{shown(queries[place])} has {tokens} tokens, with prefix and special tokens",
            expected=f"1 to {most} tokens",
            hint="shorten the query" if tokens else "remove it from the playbook",
        )


def refuse_broken(embedder: Embedder, playbook: Playbook) -> None:
    """Embed `validation.queries`; raise RagopsError that names the first one without a usable vector."""
    queries = playbook.validation.queries
    if not queries:
        return
    prefixed = [playbook.model.query_prefix + query for query in queries]
    vectors = embedder.embed(prefixed, suffix=playbook.model.query_suffix, tokens_per_batch=1).vectors
    faults = check_vectors(vectors, dimensions=embedder.model.dimensions)
    refuse_faulty(playbook, {fault.index: fault.reason for fault in faults})


def refuse_faulty(playbook: Playbook, reasons: Mapping[int, str]) -> None:
    """Raise RagopsError for the first of `validation.queries` that has no vector; `reasons` by its place."""
    for place, reason in reasons.items():
        raise RagopsError(
            "a validation query has no usable vector",
            where=f"validation.queries[{place}]",
            actual=f"{shown(playbook.validation.queries[place])}: {reason}",
            expected="a finite vector other than zero",
            hint="ragops verify   (is the model damaged?)   or change the query in the playbook",
        )
