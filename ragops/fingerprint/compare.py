"""Compare two fingerprints: field by field, by drift, with a verdict and the likely cause. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ragops.errors import UsageError
from ragops.findings import Finding
from ragops.fingerprint.document import Fingerprint, FingerprintDocument
from ragops.quality.drift import cosine_distances
from ragops.quality.spaces import SpaceDrift, SpaceLimits, Verdict, measure_spaces, space_verdict

# Paths, names and times differ between any two captures; vectors and tokens are compared as numbers.
_SILENT = (
    "captured_at",
    "vectors",
    "rows",
    "tokens",
    "pooled_norm",
    "host.name",
    "host.archspec",
    "build.python",
    "model.path",
    # Fingerprints of ragops 0.1.0 list them, with the constants that every child had.
    "model.requested.use_mmap",
    "model.requested.n_gpu_layers",
)
# Rounding leaves unit vectors within 1e-6 of length 1; models' pooled vectors have lengths far from it.
NORM_TOLERANCE = 1e-2
# Against Q8_0, F16 and BF16 weights drift by 2.1e-3 at most and Q4_0 by 0.13 (MiniLM, 93 texts): beyond this
# limit another file of the same architecture is reported as another model.
QUANTISATION_DRIFT = 5e-2
# No side cuts texts this short: another cause is likelier then.
_SHORTEST_CUT = 16
# What two files of one model have in common, whatever their quantisation.
_ARCHITECTURE = ("architecture", "n_params", "n_vocab", "n_ctx_train")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not the same."""

    field: str
    a: object
    b: object

    def to_json(self) -> dict[str, object]:
        """Return the difference as `--json` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Verdict on two fingerprints, with its evidence."""

    verdict: Verdict
    # None if the vectors cannot be compared at all (another dimension).
    drift: SpaceDrift | None
    differences: tuple[Difference, ...]
    # The likely causes first.
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, object]:
        """Return what `fingerprint compare --json` prints."""
        return {
            "verdict": self.verdict,
            "drift": asdict(self.drift) if self.drift else None,
            "differences": [difference.to_json() for difference in self.differences],
            "findings": [finding.to_json() for finding in self.findings],
        }


def compare_fingerprints(
    a: Fingerprint, b: Fingerprint, *, limits: SpaceLimits, metric: str = "cosine"
) -> Comparison:
    """Compare `a`, the one in question, with the reference `b`. Raises UsageError for other canary texts."""
    if a.document["canary"]["sha256"] != b.document["canary"]["sha256"]:
        raise UsageError(
            "the two fingerprints were captured with different canary texts",
            actual=f"versions {a.document['canary']['version']} and {b.document['canary']['version']}",
            hint="capture both with the same version of ragops",
        )
    differences = tuple(_differences(a.document, b.document))
    if a.vectors.shape[1] != b.vectors.shape[1]:
        message = f"{a.vectors.shape[1]} dimensions against {b.vectors.shape[1]}: these are different models"
        finding = Finding("dimension", "error", message, "set model.file to the reference's model")
        return Comparison("divergent", None, differences, (finding,))
    common = sorted(set(a.rows) & set(b.rows))
    if not common:
        raise UsageError("the two fingerprints have no text in common", hint="capture both again")
    left, right = _vectors_of(a, common), _vectors_of(b, common)
    drift = measure_spaces(left, right, tie_tolerance=limits.max_drift)
    findings = list(_causes(a, b, common, cosine_distances(left, right), limits))
    verdict = space_verdict(drift, limits)
    norms = np.linalg.norm(left.astype(np.float64), axis=1), np.linalg.norm(right.astype(np.float64), axis=1)
    is_known = (norms[0] > 0) & (norms[1] > 0)
    lengths = float(np.abs(norms[0] - norms[1])[is_known].max(initial=0.0))
    if lengths > NORM_TOLERANCE:
        breaks = metric != "cosine"
        verdict = "divergent" if breaks else verdict
        message = (
            f"the vectors' lengths differ by up to {lengths:.2g}: one side is not normalised. "
            f"This affects inner product and L2, not cosine search"
        )
        findings.insert(0, Finding("normalisation", "error" if breaks else "warning", message, "normalise both"))
    if verdict == "divergent" and not any(finding.severity == "error" for finding in findings):
        message = "the vectors differ, and the recorded fields do not explain why"
        findings.append(Finding("unknown-cause", "error", message, "compare models and parameters on both sides"))
    return Comparison(verdict, drift, differences, tuple(findings))


def _vectors_of(fingerprint: Fingerprint, rows: Sequence[int]) -> NDArray[np.float32]:
    """Return the vectors of these canary texts, shape (len(rows), dimensions)."""
    place = {row: position for position, row in enumerate(fingerprint.rows)}
    return fingerprint.vectors[[place[row] for row in rows]]


def _causes(
    a: Fingerprint, b: Fingerprint, rows: Sequence[int], distances: NDArray[np.float64], limits: SpaceLimits
) -> Iterator[Finding]:
    """Yield the likely causes of a divergence, the most certain first; none while every text agrees."""
    zero = int(np.isnan(distances).sum())
    if zero:
        message = f"{zero} of {len(rows)} vectors are zero or NaN"
        yield Finding("zero-vectors", "error", message, "a zero vector has no distance: fix the side that made it")
    # Not `distance > limit`, which is false for NaN.
    wrong = [row for row, distance in zip(rows, distances, strict=True) if not distance <= limits.max_drift]
    if not wrong:
        return
    ours, theirs = a.document, b.document
    yield from _tokenisation(ours, theirs, rows, wrong)
    pooling = ours["model"].get("pooling"), theirs["model"].get("pooling")
    if None not in pooling and pooling[0] != pooling[1]:
        message = f"pooling is {pooling[0]}, the reference's is {pooling[1]}"
        yield Finding("pooling", "error", message, f"set model.pooling: {pooling[1]}")
    prefix = ours["prefixes"]["document"], theirs["prefixes"]["document"]
    if prefix[0] != prefix[1]:
        message = f"the prefix is {prefix[0]!r}, the reference's is {prefix[1]!r}"
        yield Finding("prefix", "error", message, "set model.document_prefix to the reference's")
    yield from _model(ours, theirs, float(np.nanmax(distances, initial=0.0)))
    # Only long texts differ: one side cuts them. Llama.embed does so silently at n_batch tokens.
    tokens = ours["tokens"]
    shortest = min(tokens[row] for row in wrong)
    longer = [row for row in rows if tokens[row] >= shortest]
    if 2 <= len(wrong) < len(rows) and set(longer) == set(wrong) and shortest > _SHORTEST_CUT:
        message = f"only texts of {shortest} tokens and more differ: one side cuts long texts"
        hint = "give both sides the same n_ctx and n_batch, and make chunks shorter than that"
        yield Finding("truncation", "error", message, hint)


def _tokenisation(
    ours: FingerprintDocument, theirs: FingerprintDocument, rows: Sequence[int], wrong: Sequence[int]
) -> Iterator[Finding]:
    """Yield texts that the two versions of llama.cpp split into other tokens.

    Known: 0.3.16 and 0.3.36 split Devanagari differently, which moves 2 of 93 canary texts by 0.26 and 0.74.
    """
    # Token counts say something only for the same texts, prefix included, and the same vocabulary.
    if not theirs["tokens"] or ours["prefixes"]["document"] != theirs["prefixes"]["document"]:
        return
    if ours["model"].get("sha256") != theirs["model"].get("sha256"):
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


def _model(ours: FingerprintDocument, theirs: FingerprintDocument, worst: float) -> Iterator[Finding]:
    """Yield another model file: quantised differently, other weights, or another model altogether."""
    mine, other = ours["model"], theirs["model"]
    if None in (mine.get("sha256"), other.get("sha256")) or mine["sha256"] == other["sha256"]:
        return
    is_same = all(mine.get(key) == other.get(key) for key in _ARCHITECTURE) and worst <= QUANTISATION_DRIFT
    if is_same and mine.get("description") != other.get("description"):
        message = f"the weights are quantised differently: {mine['description']} against {other['description']}"
        yield Finding("quantisation", "error", message, "use the reference's file")
    elif is_same:
        yield Finding("weights", "error", "the two files hold different weights", "use the reference's file")
    else:
        names = [model.get("name") or model.get("description") for model in (mine, other)]
        message = f"another model: {names[0]} against {names[1]}"
        yield Finding("another-model", "error", message, "set model.file to the reference's model")


def _differences(a: object, b: object, path: str = "") -> Iterator[Difference]:
    """Yield every field that differs, with the path of its keys."""
    if path in _SILENT:
        return
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from _differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif a != b:
        yield Difference(path, a, b)
