"""Compare two fingerprints: field by field, by drift, with a verdict and the likely cause. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ragops.errors import UsageError
from ragops.findings import Finding
from ragops.fingerprint.causes import find_causes
from ragops.fingerprint.document import Fingerprint
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
# What older versions did not record says nothing about their side.
_LATER = frozenset(
    {
        "suffixes",
        "model.pooling_is_guessed",
        "model.attention",
        "model.attention_is_changed",
        "model.end_token",
        "model.ends_with",
        "model.suffix_tokens",
        "model.unknown_token",
        "model.shards",
        "model.weights",
        "model.requested.attention",
        "model.effective.attention",
    }
)
# Rounding leaves unit vectors within 1e-6 of length 1; models' pooled vectors have lengths far from it.
NORM_TOLERANCE = 1e-2


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
        hint = "set model.file to the reference's model"
        if b.vectors.shape[1] < a.vectors.shape[1]:
            hint += (
                f"   or, if the reference cuts its vectors (Matryoshka): model.dimensions: {b.vectors.shape[1]}"
            )
        finding = Finding("dimension", "error", message, hint)
        return Comparison("divergent", None, differences, (finding,))
    common = sorted(set(a.rows) & set(b.rows))
    if not common:
        raise UsageError("the two fingerprints have no text in common", hint="capture both again")
    left, right = _vectors_of(a, common), _vectors_of(b, common)
    drift = measure_spaces(left, right, tie_tolerance=limits.max_drift)
    findings = list(find_causes(a.document, b.document, common, (left, right), limits=limits))
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


def _differences(a: object, b: object, path: str = "") -> Iterator[Difference]:
    """Yield every field that differs, with the path of its keys."""
    if path in _SILENT or (path in _LATER and None in (a, b)):
        return
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from _differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif a != b:
        yield Difference(path, a, b)
