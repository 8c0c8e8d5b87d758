"""Compare the workers' vector space with a reference, and explain a divergence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from ragops.embedder.client import EmbedderConfig
from ragops.embedder.config import embedder_config
from ragops.embedder.starting import open_embedder, use_child
from ragops.errors import UsageError
from ragops.fingerprint.compare import Comparison, compare_fingerprints
from ragops.fingerprint.document import Canary, Fingerprint, FingerprintDocument, ModelSection, capture
from ragops.fingerprint.trials import explain
from ragops.host import read_exact_host
from ragops.playbook.endpoints import masked_url
from ragops.playbook.model import OpenAIReference, Playbook, Reference
from ragops.quality.spaces import SpaceLimits

_VERDICTS = ("identical", "equivalent", "divergent")


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
        lambda embedder: capture(
            embedder,
            document_prefix=model.document_prefix,
            query_prefix=model.query_prefix,
            document_suffix=model.document_suffix,
            query_suffix=model.query_suffix,
        ),
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
        theirs = Fingerprint.load(reference.fingerprint).cut_like(mine)
        return compare_fingerprints(mine, theirs, limits=limits)
    assert reference.openai is not None, "a debug endpoint is compared by its distances"
    theirs = _capture_endpoint(reference.openai, mine)
    comparison = compare_fingerprints(mine, theirs, limits=limits)
    suffix = playbook.model.document_suffix
    if comparison.verdict == "divergent" and suffix:
        # Who puts the suffix there, the server or the program that calls it, cannot be asked.
        sent = compare_fingerprints(mine, _capture_endpoint(reference.openai, mine, suffix=suffix), limits=limits)
        if sent.verdict != "divergent":
            return sent
    if comparison.verdict != "divergent" or comparison.drift is None:
        return comparison
    # An endpoint reports neither pooling nor prefix, so nothing recorded can explain the divergence.
    explained = explain(
        capture_config(playbook), playbook.model, mine, theirs.vectors, limits=limits, command=command
    )
    if explained is None:
        return comparison
    others = tuple(finding for finding in comparison.findings if finding.id != "unknown-cause")
    return replace(comparison, findings=(explained, *others))


def _capture_endpoint(settings: OpenAIReference, mine: Fingerprint, *, suffix: str = "") -> Fingerprint:
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
        vectors = endpoint.embed([prefix + texts[row] + suffix for row in mine.rows])
        description = endpoint.describe()
    document: FingerprintDocument = {
        "canary": mine.document["canary"],
        "build": {},
        "model": cast(ModelSection, {"endpoint": masked_url(settings.url), **description.to_json()}),
        "prefixes": mine.document["prefixes"],
        "tokens": [],
        "normalisation": "unknown",
    }
    # What makes vectors of all dimensions is cut as this side is; an endpoint may also cut them itself.
    return Fingerprint(document, mine.rows, vectors).cut_like(mine)
