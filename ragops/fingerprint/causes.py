"""Find the likely causes of a divergence between two fingerprints. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ragops.findings import Finding
from ragops.fingerprint.document import FingerprintDocument, ModelSection
from ragops.quality.drift import cosine_distances
from ragops.quality.spaces import SpaceLimits
from ragops.quality.vectors import normalize

Vectors = NDArray[np.float32]
# Against Q8_0, F16 and BF16 weights drift by 2.1e-3 at most (MiniLM, 93 texts): within this limit files of one
# architecture hold nearly the same weights, whatever else is known of them.
NEAR_WEIGHTS = 5e-2
# Coarse quantisations move single texts further: Q4_0 of MiniLM by 0.13 at most and 0.03 on average. What is above
# this on average was trained differently, although norms and biases may be the same (adapters leave them alone).
QUANTISED_MEAN = 0.15
# Of texts whose nearest text on the other side is themselves: quantising keeps nearly all of them.
QUANTISED_SELF = 0.9
# No side cuts texts this short: another cause is likelier then.
_SHORTEST_CUT = 16
# What two files of one model have in common, whatever their quantisation.
_ARCHITECTURE = ("architecture", "n_params", "n_vocab", "n_ctx_train")


def find_causes(
    ours: FingerprintDocument,
    theirs: FingerprintDocument,
    rows: Sequence[int],
    vectors: tuple[Vectors, Vectors],
    *,
    limits: SpaceLimits,
) -> Iterator[Finding]:
    """Yield the likely causes of a divergence, the most certain first; none while every text agrees.

    `vectors` are those of the canary texts `rows`, of both sides, each of shape (rows, dimensions).
    """
    distances = cosine_distances(*vectors)
    zero = int(np.isnan(distances).sum())
    if zero:
        message = f"{zero} of {len(rows)} vectors are zero or NaN"
        yield Finding("zero-vectors", "error", message, "a zero vector has no distance: fix the side that made it")
    # Not `distance > limit`, which is false for NaN.
    wrong = [row for row, distance in zip(rows, distances, strict=True) if not distance <= limits.max_drift]
    if not wrong:
        return
    yield from _tokenisation(ours, theirs, rows, wrong)
    settings = list(_settings(ours, theirs))
    yield from settings
    yield from _model(ours, theirs, vectors, distances, has_other_settings=bool(settings))
    # Only long texts differ: one side cuts them. Llama.embed does so silently at n_batch tokens.
    tokens = ours["tokens"]
    shortest = min(tokens[row] for row in wrong)
    longer = [row for row in rows if tokens[row] >= shortest]
    if 2 <= len(wrong) < len(rows) and set(longer) == set(wrong) and shortest > _SHORTEST_CUT:
        message = f"only texts of {shortest} tokens and more differ: one side cuts long texts"
        hint = "give both sides the same n_ctx and n_batch, and make chunks shorter than that"
        yield Finding("truncation", "error", message, hint)


def _settings(ours: FingerprintDocument, theirs: FingerprintDocument) -> Iterator[Finding]:
    """Yield pooling, prefix, end of texts and attention, where they differ."""
    pooling = ours["model"].get("pooling"), theirs["model"].get("pooling")
    if None not in pooling and pooling[0] != pooling[1]:
        message = f"pooling is {pooling[0]}, the reference's is {pooling[1]}"
        yield Finding("pooling", "error", message, f"set model.pooling: {pooling[1]}")
    prefix = ours["prefixes"]["document"], theirs["prefixes"]["document"]
    if prefix[0] != prefix[1]:
        message = f"the prefix is {prefix[0]!r}, the reference's is {prefix[1]!r}"
        yield Finding("prefix", "error", message, "set model.document_prefix to the reference's")
    ends = end_of(ours), end_of(theirs)
    if ends[0] is not None and ends[1] is not None and ends[0] != ends[1]:
        here, there = (end or "no end-of-sequence token (EOS)" for end in ends)
        message = f"texts end with {here}, the reference's with {there}"
        yield Finding("ending", "error", message, _ending_hint(ours["model"].get("ends_with", ""), ends[1]))
    attention = ours["model"].get("attention"), theirs["model"].get("attention")
    if all(attention) and attention[0] != attention[1]:
        message = f"attention is {attention[0]}, the reference's is {attention[1]}"
        yield Finding("attention", "error", message, f"set model.attention: {attention[1]}")


def end_of(document: FingerprintDocument) -> str | None:
    """Return what follows every text, by suffix and tokenizer; None where the document does not say."""
    model = document["model"]
    tokenizer = model.get("ends_with")
    if tokenizer is None:
        # Of versions that did not record what the tokenizer does: what the file declares.
        declared = model.get("metadata", {}).get("tokenizer.ggml.add_eos_token")
        if declared != "false":
            return None
        tokenizer = ""
    return document.get("suffixes", {"document": "", "query": ""})["document"] + tokenizer


def _ending_hint(own: str, wanted: str) -> str:
    """Return the line that makes texts end with `wanted`, where the tokenizer puts `own` after each."""
    if not wanted.endswith(own):
        return f"use the reference's file: the tokenizer of this one puts {own} after every text"
    suffix = json.dumps(wanted[: len(wanted) - len(own)], ensure_ascii=False)
    return f"set model.document_suffix: {suffix}   and model.query_suffix as the backend has it"


def _tokenisation(
    ours: FingerprintDocument, theirs: FingerprintDocument, rows: Sequence[int], wrong: Sequence[int]
) -> Iterator[Finding]:
    """Yield texts that the two versions of llama.cpp split into other tokens.

    Known: 0.3.16 and 0.3.36 split Devanagari differently, which moves 2 of 93 canary texts by 0.26 and 0.74.
    """
    # Token counts say something only for the same texts, prefix and end included, and the same vocabulary.
    if not theirs["tokens"] or ours["prefixes"]["document"] != theirs["prefixes"]["document"]:
        return
    if end_of(ours) != end_of(theirs) or not is_same_file(ours["model"], theirs["model"]):
        return
    split = [row for row in rows if ours["tokens"][row] != theirs["tokens"][row]]
    if not split:
        return
    others = len([row for row in wrong if row not in split])
    message = (
        f"the two versions of llama.cpp split {len(split)} of {len(rows)} texts into different tokens; "
        f"{others} of the others differ by more than the limit"
    )
    hint = "use the reference's version, or accept it for a corpus without those scripts"
    yield Finding("tokenisation", "error", message, hint)


def is_same_file(mine: ModelSection, other: ModelSection) -> bool:
    """Return whether both models are the same files."""
    if mine.get("sha256") == other.get("sha256"):
        return True
    # Versions that knew no shards recorded the first one's hash.
    pairs = ((mine, other), (other, mine))
    return any("shards" not in old and new.get("shards", [])[:1] == [old.get("sha256")] for new, old in pairs)


def _model(
    ours: FingerprintDocument,
    theirs: FingerprintDocument,
    vectors: tuple[Vectors, Vectors],
    distances: NDArray[np.float64],
    *,
    has_other_settings: bool,
) -> Iterator[Finding]:
    """Yield another model file: quantised differently, other weights, or another model altogether."""
    mine, other = ours["model"], theirs["model"]
    if None in (mine.get("sha256"), other.get("sha256")) or is_same_file(mine, other):
        return
    described = mine.get("description"), other.get("description")
    is_one = _is_one_model(mine, other, vectors, distances, has_other_settings=has_other_settings)
    if is_one is None:
        message = "the model files differ, too; whether the weights do shows only with the same settings"
        yield Finding("another-file", "warning", message, "use the reference's file, or compare again afterwards")
    elif not is_one:
        names = [model.get("name") or model.get("description") for model in (mine, other)]
        same = ", of the same name but with other weights" if names[0] == names[1] else ""
        message = f"another model: {names[0]} against {names[1]}{same}"
        yield Finding("another-model", "error", message, "set model.file to the reference's model")
    elif described[0] != described[1] and not _are_trained_apart(mine, other):
        message = f"another quantisation of the same model: {described[0]} against {described[1]}"
        yield Finding("quantisation", "error", message, "use the reference's file")
    elif not has_other_settings:
        yield Finding("weights", "error", "the two files hold different weights", "use the reference's file")


def _is_one_model(
    mine: ModelSection,
    other: ModelSection,
    vectors: tuple[Vectors, Vectors],
    distances: NDArray[np.float64],
    *,
    has_other_settings: bool,
) -> bool | None:
    """Return whether two files hold the same trained weights, quantised in whatever way; None if nothing tells."""
    if any(mine.get(key) != other.get(key) for key in _ARCHITECTURE):
        return False
    if float(np.nanmax(distances, initial=0.0)) <= NEAR_WEIGHTS:
        return True
    if _are_trained_apart(mine, other):
        return False
    if has_other_settings:
        # Another pooling or end moves vectors as far as another model does: norms and biases alone can tell.
        return True if mine.get("weights") and other.get("weights") else None
    return float(np.nanmean(distances)) <= QUANTISED_MEAN and _nearest_self(*vectors) >= QUANTISED_SELF


def _are_trained_apart(mine: ModelSection, other: ModelSection) -> bool:
    """Return whether norms and biases are known and differ."""
    known = mine.get("weights"), other.get("weights")
    return all(known) and known[0] != known[1]


def _nearest_self(left: Vectors, right: Vectors) -> float:
    """Return the share of texts whose nearest vector on the other side is that of the same text."""
    similarity = normalize(left).astype(np.float64) @ normalize(right).astype(np.float64).T
    is_known = np.isfinite(similarity).all(axis=1)
    nearest = np.nan_to_num(similarity, nan=-1.0).argmax(axis=1) == np.arange(len(left))
    return float(nearest[is_known].mean()) if is_known.any() else 0.0
