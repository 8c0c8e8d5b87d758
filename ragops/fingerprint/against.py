"""Measures the workers' vector space against a reference, and against what is stored already."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.embedder.config import embedder_config
from ragops.errors import UsageError
from ragops.findings import Finding
from ragops.fingerprint.compare import Comparison, compare_fingerprints
from ragops.fingerprint.document import Canary, Fingerprint, capture
from ragops.host import read_exact_host
from ragops.playbook.model import DebugReference, OpenAIReference, Playbook, Reference
from ragops.quality.spaces import SpaceLimits, measure_spaces, space_verdict

# What other tools put before a text; tried when a reference that tells nothing about itself diverges.
KNOWN_PREFIXES = ("query: ", "passage: ", "query : ", "search_query: ", "search_document: ", "clustering: ")
POOLINGS = ("mean", "cls", "last")
TRIAL_TEXTS = 24
TRIAL_TOKENS = 120


@dataclass(frozen=True, slots=True)
class Variant:
    """Another setting of the workers, tried to explain a divergence."""

    finding: str
    what: str
    hint: str
    config: EmbedderConfig
    prefix: str


def limits_of(playbook: Playbook) -> SpaceLimits:
    return SpaceLimits(playbook.build.max_drift, playbook.build.min_overlap)


def capture_config(playbook: Playbook) -> EmbedderConfig:
    """One text a batch and one thread: nothing but build, model and parameters moves the vectors."""
    return dataclasses.replace(embedder_config(playbook, threads=1), tokens_per_batch=1)


def capture_own(playbook: Playbook, *, command: Sequence[str] | None = None) -> Fingerprint:
    """The fingerprint of the workers' interpreter, model and parameters. Raises as Embedder does."""
    with Embedder(capture_config(playbook), command=command) as embedder:
        found = capture(
            embedder,
            document_prefix=playbook.model.document_prefix,
            query_prefix=playbook.model.query_prefix,
        )
    # The child knows the CPU's name only; the host is the same one.
    host = {**found.document["host"], "archspec": asdict(read_exact_host())}
    return dataclasses.replace(found, document={**found.document, "host": host})


def parse_reference(text: str) -> Reference:
    """`--against`: a fingerprint file, the URL of an OpenAI-compatible endpoint, or one with `{query}`.

    Raises UsageError for a file that does not exist and for a malformed URL.
    """
    if text.startswith(("http://", "https://")):
        return _parse_url(text)
    path = Path(text)
    if not path.is_file():
        raise UsageError(
            "no such reference",
            where=text,
            expected="a fingerprint file, http(s)://HOST/v1, or a debug endpoint's URL with {query}",
            hint="ragops fingerprint capture -o FILE   on the backend, then: ragops verify --against FILE",
        )
    return Reference(fingerprint=path)


def _parse_url(text: str) -> Reference:
    try:
        if "{query}" in text:
            return Reference(debug=DebugReference(url=text))
        return Reference(openai=OpenAIReference(url=text.removesuffix("/embeddings").rstrip("/")))
    except ValidationError as error:
        # Its own text would repeat the URL, which may hold a token.
        raise UsageError(
            "the reference's URL is malformed",
            where="--against",
            actual=error.errors(include_url=False)[0]["msg"].removeprefix("Value error, "),
            expected="http(s)://HOST/v1, or a debug endpoint's URL with {query}",
        ) from error


def compare_with(
    playbook: Playbook, reference: Reference, mine: Fingerprint, *, command: Sequence[str] | None = None
) -> Comparison:
    """Compare the workers' fingerprint with a fingerprint file or an endpoint.

    Raises UsageError for a damaged file, RagopsError for a fault of the endpoint.
    """
    limits = limits_of(playbook)
    if reference.fingerprint is not None:
        return compare_fingerprints(mine, Fingerprint.load(reference.fingerprint), limits=limits)
    assert reference.openai is not None, "a debug endpoint is compared by its distances"
    theirs = _ask_endpoint(reference.openai, mine)
    comparison = compare_fingerprints(mine, theirs, limits=limits)
    if comparison.verdict != "divergent" or comparison.drift is None:
        return comparison
    explained = explain(playbook, mine, theirs.vectors, limits=limits, command=command)
    if explained is None:
        return comparison
    known = tuple(finding for finding in comparison.findings if finding.id != "unknown-cause")
    return dataclasses.replace(comparison, findings=(explained, *known))


def _ask_endpoint(settings: OpenAIReference, mine: Fingerprint) -> Fingerprint:
    """The canary vectors of an endpoint, as a fingerprint that knows nothing but vectors."""
    key = os.environ.get(settings.api_key_env) if settings.api_key_env else None
    if settings.api_key_env and key is None:
        raise UsageError(
            "the endpoint's key is not set",
            where="reference.openai.api_key_env",
            expected=f"the environment variable {settings.api_key_env}",
        )
    from ragops.references.openai import OpenAIEndpoint

    texts = Canary.load().texts
    prefix = mine.document["prefixes"]["document"]
    with OpenAIEndpoint(settings, api_key=key) as endpoint:
        vectors = endpoint.embed([prefix + texts[row] for row in mine.rows])
        description = endpoint.describe()
    document = {
        "canary": mine.document["canary"],
        "build": {},
        "model": {"endpoint": settings.url, **description.to_json()},
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
    """Try other poolings and prefixes on a few texts; the one that agrees with `theirs` is the cause."""
    texts, tokens = Canary.load().texts, mine.document["tokens"]
    chosen = [place for place, row in enumerate(mine.rows) if tokens[row] <= TRIAL_TOKENS][:TRIAL_TEXTS]
    wanted = theirs[chosen]
    for variant in _variants(playbook):
        with Embedder(variant.config, command=command) as embedder:
            asked = [variant.prefix + texts[mine.rows[place]] for place in chosen]
            found = embedder.embed(asked).vectors
        drift = measure_spaces(found, wanted, tie_tolerance=limits.max_drift)
        if space_verdict(drift, limits) != "divergent":
            return Finding(variant.finding, "error", f"with {variant.what} the vectors agree", variant.hint)
    return None


def _variants(playbook: Playbook) -> Iterable[Variant]:
    config, prefix = capture_config(playbook), playbook.model.document_prefix
    for pooling in POOLINGS:
        other = dataclasses.replace(config, pooling=pooling)
        yield Variant("pooling", f"{pooling} pooling", f"set model.pooling: {pooling}", other, prefix)
    for known in ("", *KNOWN_PREFIXES):
        if known != prefix:
            hint = f"set model.document_prefix: {known!r}, or take it off on the other side"
            yield Variant("prefix", f"the prefix {known!r}", hint, config, known)


def is_accepted(verdict: str, playbook: Playbook) -> bool:
    """Whether a verdict is at least what `build.accept` asks for."""
    order = ("identical", "equivalent", "divergent")
    return order.index(verdict) <= order.index(playbook.build.accept)


def reference_name(reference: Reference) -> str | None:
    """The reference in words; None where the playbook has none."""
    if reference.fingerprint is not None:
        return str(reference.fingerprint)
    if reference.openai is not None:
        return reference.openai.url
    return reference.debug.url if reference.debug is not None else None


def comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    """What `fingerprint compare --json` and `verify --against --json` print."""
    return {
        "verdict": comparison.verdict,
        "drift": asdict(comparison.drift) if comparison.drift else None,
        "differences": [asdict(difference) for difference in comparison.differences],
        "findings": [asdict(finding) for finding in comparison.findings],
    }
