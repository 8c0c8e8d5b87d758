"""Compares two fingerprints: field by field, by drift, with a verdict and the likely cause. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ragops.errors import UsageError
from ragops.findings import Finding
from ragops.fingerprint.document import Fingerprint
from ragops.quality.drift import cosine_distances
from ragops.quality.spaces import SpaceDrift, SpaceLimits, Verdict, measure_spaces, space_verdict

# Paths, names and times differ without saying anything about the space.
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
)
NORM_TOLERANCE = 1e-2
QUANTISATION_DRIFT = 5e-2


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not the same."""

    field: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two fingerprints say about each other."""

    verdict: Verdict
    drift: SpaceDrift | None
    """None where the vectors cannot be compared at all (another dimension)."""
    differences: tuple[Difference, ...]
    findings: tuple[Finding, ...]
    """The likely causes first."""

    def to_json(self) -> dict[str, object]:
        """What `fingerprint compare --json` prints."""
        return {
            "verdict": self.verdict,
            "drift": asdict(self.drift) if self.drift else None,
            "differences": [asdict(difference) for difference in self.differences],
            "findings": [finding.to_json() for finding in self.findings],
        }


def compare_fingerprints(
    a: Fingerprint, b: Fingerprint, *, limits: SpaceLimits, metric: str = "cosine"
) -> Comparison:
    """`a` is the one in question, `b` the reference. Raises UsageError for other canary texts."""
    if a.document["canary"]["sha256"] != b.document["canary"]["sha256"]:
        raise UsageError(
            "the two fingerprints were made with different canary texts",
            actual=f"versions {a.document['canary']['version']} and {b.document['canary']['version']}",
            hint="capture both with the same version of ragops",
        )
    differences = tuple(_differences(a.document, b.document))
    if a.vectors.shape[1] != b.vectors.shape[1]:
        message = f"{a.vectors.shape[1]} dimensions against {b.vectors.shape[1]}: these are other models"
        finding = Finding("dimension", "error", message, "name the reference's model in model.file")
        return Comparison("divergent", None, differences, (finding,))
    common = sorted(set(a.rows) & set(b.rows))
    if not common:
        raise UsageError("the two fingerprints have no text in common", hint="capture both again")
    left, right = a.vectors[_places(a, common)], b.vectors[_places(b, common)]
    drift = measure_spaces(left, right, tie_tolerance=limits.max_drift)
    distances = cosine_distances(left, right)
    findings = list(_causes(a, b, common, distances, limits))
    verdict = space_verdict(drift, limits)
    lengths = _norm_difference(left, right)
    if lengths > NORM_TOLERANCE:
        breaks = metric != "cosine"
        verdict = "divergent" if breaks else verdict
        message = (
            f"the vectors' lengths differ by up to {lengths:.2g}: one side is not normalised. "
            f"Cosine search is not affected, inner product and L2 are"
        )
        findings.insert(0, Finding("normalisation", "error" if breaks else "warning", message, "normalise both"))
    if verdict == "divergent" and not any(f.severity == "error" for f in findings):
        message = "no known pattern fits: the vectors differ, the recorded fields do not say why"
        findings.append(Finding("unknown-cause", "error", message, "compare models and parameters on both sides"))
    return Comparison(verdict, drift, differences, tuple(findings))


def _places(fingerprint: Fingerprint, rows: Sequence[int]) -> list[int]:
    place = {row: position for position, row in enumerate(fingerprint.rows)}
    return [place[row] for row in rows]


def _norm_difference(left: Any, right: Any) -> float:
    norms = np.linalg.norm(left.astype(np.float64), axis=1), np.linalg.norm(right.astype(np.float64), axis=1)
    is_known = (norms[0] > 0) & (norms[1] > 0)
    return float(np.abs(norms[0] - norms[1])[is_known].max(initial=0.0))


def _causes(
    a: Fingerprint, b: Fingerprint, rows: Sequence[int], distances: Any, limits: SpaceLimits
) -> Iterator[Finding]:
    """Likely causes of a divergence, the most certain first; nothing while every text agrees."""
    zero = int(np.isnan(distances).sum())
    if zero:
        message = f"{zero} of {len(rows)} vectors are zero or no number"
        yield Finding(
            "zero-vectors", "error", message, "a zero vector has no distance: mend the side that made it"
        )
    wrong = [row for row, distance in zip(rows, distances, strict=True) if not distance <= limits.max_drift]
    if not wrong:
        return
    ours, theirs = a.document, b.document
    yield from _tokenisation(ours, theirs, rows, wrong)
    yield from _settings(ours, theirs)
    yield from _model(ours, theirs, float(np.nanmax(distances, initial=0.0)))
    yield from _truncation(ours, theirs, rows, wrong)


def _tokenisation(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], rows: Sequence[int], wrong: Sequence[int]
) -> Iterator[Finding]:
    if not theirs["tokens"] or ours["prefixes"]["document"] != theirs["prefixes"]["document"]:
        return
    if ours["model"].get("sha256") != theirs["model"].get("sha256"):
        return
    cut = [row for row in rows if ours["tokens"][row] != theirs["tokens"][row]]
    if not cut:
        return
    elsewhere = len([row for row in wrong if row not in cut])
    message = (
        f"{len(cut)} of {len(rows)} texts are cut into other tokens by the two versions of llama.cpp; "
        f"{elsewhere} of the others differ by more than the limit"
    )
    hint = "use the reference's version, or accept it for a corpus without those scripts"
    yield Finding("tokenisation", "error", message, hint)


def _settings(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[Finding]:
    pooling = ours["model"].get("pooling"), theirs["model"].get("pooling")
    if None not in pooling and pooling[0] != pooling[1]:
        message = f"pooling is {pooling[0]}, the reference's is {pooling[1]}"
        yield Finding("pooling", "error", message, f"set model.pooling: {pooling[1]}")
    prefix = ours["prefixes"]["document"], theirs["prefixes"]["document"]
    if prefix[0] != prefix[1]:
        message = f"the prefix is {prefix[0]!r}, the reference's is {prefix[1]!r}"
        yield Finding("prefix", "error", message, "set model.document_prefix to the reference's")


def _model(ours: Mapping[str, Any], theirs: Mapping[str, Any], worst: float) -> Iterator[Finding]:
    mine, other = ours["model"], theirs["model"]
    if None in (mine.get("sha256"), other.get("sha256")) or mine["sha256"] == other["sha256"]:
        return
    same = all(mine.get(key) == other.get(key) for key in ("architecture", "n_params", "n_vocab", "n_ctx_train"))
    if same and mine.get("description") != other.get("description") and worst <= QUANTISATION_DRIFT:
        message = f"the weights are quantised differently: {mine['description']} against {other['description']}"
        yield Finding("quantisation", "error", message, "use the reference's file")
    elif same and worst <= QUANTISATION_DRIFT:
        yield Finding("weights", "error", "the two files hold other weights", "use the reference's file")
    else:
        message = f"another model: {mine.get('name') or mine.get('description')} against " + str(
            other.get("name") or other.get("description")
        )
        yield Finding("another-model", "error", message, "name the reference's model in model.file")


def _truncation(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], rows: Sequence[int], wrong: Sequence[int]
) -> Iterator[Finding]:
    """Only long texts differ: one side cuts them."""
    tokens = ours["tokens"]
    shortest = min(tokens[row] for row in wrong)
    longer = [row for row in rows if tokens[row] >= shortest]
    if len(wrong) >= 2 and set(longer) == set(wrong) and len(wrong) < len(rows) and shortest > 16:
        message = f"only texts of {shortest} tokens and more differ: one side cuts long texts"
        hint = "give both sides the same n_ctx and n_batch, and chunk below it"
        yield Finding("truncation", "error", message, hint)


def _differences(a: Any, b: Any, path: str = "") -> Iterator[Difference]:
    if path in _SILENT:
        return
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from _differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif a != b:
        yield Difference(path, a, b)
