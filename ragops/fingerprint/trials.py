"""Try other settings of the workers, to explain why a reference that returns only vectors diverges."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.child_engine import ATTENTIONS, USABLE_POOLINGS
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.embedder.starting import open_embedder, use_child
from ragops.findings import Finding
from ragops.fingerprint.document import Canary, Fingerprint
from ragops.playbook.model import Model
from ragops.quality.spaces import SpaceLimits, measure_spaces, space_verdict

# What other tools put before a text: E5's and nomic-embed-text's prefixes, and a spelling with a space that
# is common in copied code.
KNOWN_PREFIXES = ("query: ", "passage: ", "query : ", "search_query: ", "search_document: ", "clustering: ")
# What other tools end a text with, beside the token that the vocabulary itself calls EOS.
KNOWN_ENDS = ("<|endoftext|>", "</s>", "<eos>", "<|im_end|>", "<|end_of_text|>")
# Texts per variant, and their longest: enough to tell a pooling or a prefix apart within seconds.
TRIAL_TEXTS = 24
TRIAL_TOKENS = 120
# Of these the first few are enough to rule a variant out.
FIRST_TEXTS = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """Changed settings of the workers, tried to explain a divergence; None leaves one as it is."""

    finding: str
    what: str
    hint: str
    pooling: str | None = None
    attention: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    without_end: bool = False
    """Leave out the token that the tokenizer puts after every text by itself."""

    def config(self, own: EmbedderConfig) -> EmbedderConfig:
        return replace(own, pooling=self.pooling or own.pooling, attention=self.attention or own.attention)

    def and_also(self, other: Variant) -> Variant:
        """Return both changes together; they are of different settings."""
        return Variant(
            self.finding,
            f"{self.what} and {other.what}",
            f"{self.hint}   and {other.hint}",
            pooling=self.pooling or other.pooling,
            attention=self.attention or other.attention,
            prefix=self.prefix if other.prefix is None else other.prefix,
            suffix=self.suffix if other.suffix is None else other.suffix,
            without_end=self.without_end or other.without_end,
        )


def explain(
    config: EmbedderConfig,
    settings: Model,
    mine: Fingerprint,
    theirs: NDArray[np.float32],
    *,
    limits: SpaceLimits,
    command: Sequence[str] | None = None,
) -> Finding | None:
    """Return the settings with which a few texts agree with `theirs`, shape (len(mine.rows), dimensions)."""
    texts, tokens = Canary.load().texts, mine.document["tokens"]
    places = [place for place, row in enumerate(mine.rows) if tokens[row] <= TRIAL_TOKENS][:TRIAL_TEXTS]
    # Most variants are ruled out by the shortest: a large model would take minutes for all of them.
    places.sort(key=lambda place: tokens[mine.rows[place]])
    chosen = [texts[mine.rows[place]] for place in places]

    def agrees(embedder: Embedder, variant: Variant, count: int) -> bool:
        vectors = _vectors(embedder, settings, variant, chosen[:count])
        drift = measure_spaces(vectors, theirs[places[:count]], tie_tolerance=limits.max_drift)
        return space_verdict(drift, limits) != "divergent"

    def first_that_agrees(embedder: Embedder, variants: Sequence[Variant]) -> Finding | None:
        for variant in variants:
            if variant.suffix and not _is_special(embedder, variant.suffix):
                continue
            if all(agrees(embedder, variant, count) for count in (FIRST_TEXTS, len(chosen))):
                return Finding(variant.finding, "error", f"with {variant.what} the vectors agree", variant.hint)
        return None

    for shared, group in groupby(_variants(settings, mine), key=lambda variant: variant.config(config)):
        found = use_child(
            partial(open_embedder, shared, command=command), partial(first_that_agrees, variants=list(group))
        )
        if found is not None:
            return found
    return None


def _vectors(embedder: Embedder, settings: Model, variant: Variant, texts: Sequence[str]) -> NDArray[np.float32]:
    prefix = settings.document_prefix if variant.prefix is None else variant.prefix
    suffix = settings.document_suffix if variant.suffix is None else variant.suffix
    prefixed = [prefix + text for text in texts]
    if not variant.without_end:
        return embedder.embed(prefixed, suffix=suffix).vectors
    return embedder.embed_tokens([ids[:-1] for ids in embedder.tokenise(prefixed, suffix=suffix)]).vectors


def _is_special(embedder: Embedder, suffix: str) -> bool:
    """Return whether the suffix is one token of this vocabulary."""
    return embedder.count_tokens(["a"], suffix=suffix)[0] == embedder.count_tokens(["a"])[0] + 1


def _variants(settings: Model, mine: Fingerprint) -> Iterator[Variant]:
    """Yield one changed setting at a time, then two that go together; equal configurations follow each other."""
    model = mine.document["model"]
    prefixes = list(_prefixes(settings.document_prefix))
    ends = list(_ends(settings.document_suffix, model.get("end_token", ""), model.get("ends_with", "")))
    poolings = [
        Variant("pooling", f"{name} pooling", f"set model.pooling: {name}", pooling=name)
        for name in USABLE_POOLINGS
        if name != model.get("pooling")
    ]
    attentions = [
        Variant("attention", f"{name} attention", f"set model.attention: {name}", attention=name)
        for name in ATTENTIONS
        # An encoder's is what it is.
        if model.get("is_decoder") and name != model.get("attention")
    ]
    yield from (*prefixes, *ends, *poolings, *attentions)
    yield from (attention.and_also(pooling) for attention in attentions for pooling in poolings)
    yield from (end.and_also(prefix) for end in ends for prefix in prefixes)
    yield from (change.and_also(end) for change in (*poolings, *attentions) for end in ends)


def _prefixes(own: str) -> Iterator[Variant]:
    for known in ("", *KNOWN_PREFIXES):
        if known != own:
            hint = f"set model.document_prefix: {known!r}, or remove it on the other side"
            yield Variant("prefix", f"the prefix {known!r}", hint, prefix=known)


def _ends(suffix: str, end_token: str, ends_with: str) -> Iterator[Variant]:
    """Yield other ends of texts: an end-of-sequence token where there is none, none where there is one."""
    if suffix:
        hint = "remove model.document_suffix, or set it on the other side"
        yield Variant("ending", "texts without the suffix", hint, suffix="")
    if ends_with:
        what = f"texts that do not end with {ends_with} (EOS), as the other side's,"
        hint = "use the backend's file: the tokenizer of this one puts it after every text"
        yield Variant("ending", what, hint, without_end=True)
        return
    for end in dict.fromkeys((end_token, *KNOWN_ENDS)):
        if end and end != suffix:
            line = json.dumps(end, ensure_ascii=False)
            hint = f"set model.document_suffix: {line}   and model.query_suffix: {line}"
            what = f"texts that end with {end} (the other side ends texts with EOS)"
            yield Variant("ending", what, hint, suffix=end)
