"""Compare the workers' vector space with a reference, and explain a divergence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.child_engine import USABLE_POOLINGS
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.embedder.config import embedder_config
from ragops.embedder.starting import open_embedder, use_child
from ragops.errors import UsageError
from ragops.findings import Finding
from ragops.fingerprint.compare import Comparison, compare_fingerprints
from ragops.fingerprint.document import Canary, Fingerprint, FingerprintDocument, ModelSection, capture
from ragops.host import read_exact_host
from ragops.playbook.endpoints import masked_url
from ragops.playbook.model import OpenAIReference, Playbook, Reference
from ragops.quality.spaces import SpaceLimits, measure_spaces, space_verdict

# What other tools put before a text: E5's and nomic-embed-text's prefixes, and a spelling with a space that
# is common in copied code. Tried if a reference that reports nothing but vectors diverges.
KNOWN_PREFIXES = ("query: ", "passage: ", "query : ", "search_query: ", "search_document: ", "clustering: ")
# Texts per variant, and their longest: enough to tell a pooling or a prefix apart within seconds.
TRIAL_TEXTS = 24
TRIAL_TOKENS = 120
_VERDICTS = ("identical", "equivalent", "divergent")


@dataclass(frozen=True, slots=True)
class Variant:
    """Another setting of the workers, tried to explain a divergence."""

    finding: str
    what: str
    hint: str
    config: EmbedderConfig
    prefix: str


def limits_of(playbook: Playbook) -> SpaceLimits:
    """Return the playbook's limits of what still counts as one space."""
    return SpaceLimits(playbook.build.max_drift, playbook.build.min_overlap)


def is_accepted(verdict: str, playbook: Playbook) -> bool:
    """Return whether a verdict is at least what `build.accept` requires."""
    return _VERDICTS.index(verdict) <= _VERDICTS.index(playbook.build.accept)


def reference_name(reference: Reference) -> str | None:
    """Return the reference as shown to people; None if the playbook has none."""
    if reference.fingerprint is not None:
        return str(reference.fingerprint)
    if reference.openai is not None:
        return masked_url(reference.openai.url)
    return masked_url(reference.debug.url) if reference.debug is not None else None


def capture_config(playbook: Playbook) -> EmbedderConfig:
    """Return the configuration for a fingerprint: one text per batch and one thread.

    Nothing but build, model and parameters moves the vectors then.
    """
    return replace(embedder_config(playbook, threads=1), tokens_per_batch=1)


def capture_own(playbook: Playbook, *, command: Sequence[str] | None = None) -> Fingerprint:
    """Capture the fingerprint of the workers' interpreter, model and parameters.

    Raises ModelUnusable for a model whose vectors are not finite, zero or all the same, and as Embedder does.
    """
    model = playbook.model
    fingerprint = use_child(
        lambda: open_embedder(capture_config(playbook), command=command),
        lambda embedder: capture(embedder, document_prefix=model.document_prefix, query_prefix=model.query_prefix),
    )
    # The child has the CPU's name only; it runs on the same host.
    return fingerprint.on_host(read_exact_host())


def compare_with(
    playbook: Playbook, reference: Reference, mine: Fingerprint, *, command: Sequence[str] | None = None
) -> Comparison:
    """Compare the workers' fingerprint with a fingerprint file or an endpoint.

    Raises UsageError for a damaged file or a missing key, RagopsError for a fault of the endpoint.
    """
    limits = limits_of(playbook)
    if reference.fingerprint is not None:
        return compare_fingerprints(mine, Fingerprint.load(reference.fingerprint), limits=limits)
    assert reference.openai is not None, "a debug endpoint is compared by its distances"
    theirs = _capture_endpoint(reference.openai, mine)
    comparison = compare_fingerprints(mine, theirs, limits=limits)
    if comparison.verdict != "divergent" or comparison.drift is None:
        return comparison
    # An endpoint reports neither pooling nor prefix, so nothing recorded can explain the divergence.
    explained = explain(playbook, mine, theirs.vectors, limits=limits, command=command)
    if explained is None:
        return comparison
    others = tuple(finding for finding in comparison.findings if finding.id != "unknown-cause")
    return replace(comparison, findings=(explained, *others))


def _capture_endpoint(settings: OpenAIReference, mine: Fingerprint) -> Fingerprint:
    """Return the canary vectors of an endpoint, as a fingerprint without facts of build and model."""
    key = os.environ.get(settings.api_key_env) if settings.api_key_env else None
    if settings.api_key_env and key is None:
        raise UsageError(
            "the endpoint's API key is not set",
            where="reference.openai.api_key_env",
            expected=f"the environment variable {settings.api_key_env}",
        )
    from ragops.references.openai import OpenAIEndpoint  # with httpx, which a fingerprint file needs not

    texts = Canary.load().texts
    prefix = mine.document["prefixes"]["document"]
    with OpenAIEndpoint(settings, api_key=key) as endpoint:
        vectors = endpoint.embed([prefix + texts[row] for row in mine.rows])
        description = endpoint.describe()
    document: FingerprintDocument = {
        "canary": mine.document["canary"],
        "build": {},
        "model": cast(ModelSection, {"endpoint": masked_url(settings.url), **description.to_json()}),
        "prefixes": mine.document["prefixes"],
        "tokens": [],
        "normalisation": "unknown",
    }
    return Fingerprint(document, mine.rows, vectors)


def explain(
    playbook: Playbook,
    mine: Fingerprint,
    theirs: NDArray[np.float32],
    *,
    limits: SpaceLimits,
    command: Sequence[str] | None = None,
) -> Finding | None:
    """Return the pooling or prefix with which a few texts agree with `theirs`; None if none does."""
    texts, tokens = Canary.load().texts, mine.document["tokens"]
    places = [place for place, row in enumerate(mine.rows) if tokens[row] <= TRIAL_TOKENS][:TRIAL_TEXTS]
    config, prefix = capture_config(playbook), playbook.model.document_prefix
    variants = [
        Variant(
            "pooling",
            f"{pooling} pooling",
            f"set model.pooling: {pooling}",
            replace(config, pooling=pooling),
            prefix,
        )
        for pooling in USABLE_POOLINGS
    ]
    for known in ("", *KNOWN_PREFIXES):
        if known != prefix:
            hint = f"set model.document_prefix: {known!r}, or remove it on the other side"
            variants.append(Variant("prefix", f"the prefix {known!r}", hint, config, known))
    for variant in variants:
        with Embedder(variant.config, command=command) as embedder:
            vectors = embedder.embed([variant.prefix + texts[mine.rows[place]] for place in places]).vectors
        drift = measure_spaces(vectors, theirs[places], tie_tolerance=limits.max_drift)
        if space_verdict(drift, limits) != "divergent":
            return Finding(variant.finding, "error", f"with {variant.what} the vectors agree", variant.hint)
    return None
