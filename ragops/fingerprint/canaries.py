"""Vectors of the canary texts, kept in the ledger: they compare two builds that work on one corpus."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.client import Embedder
from ragops.fingerprint.document import Canary
from ragops.quality.spaces import SpaceDrift, SpaceLimits, measure_spaces
from ragops.quality.vectors import normalize


@dataclass(frozen=True, slots=True)
class CanaryVectors:
    """Unit vectors of those canary texts that are not too long for the model."""

    sha256: str
    """Of the texts."""
    rows: tuple[int, ...]
    vectors: NDArray[np.float32]
    """Shape (len(rows), dimensions)."""

    @classmethod
    def parse(cls, stored: Mapping[str, Any]) -> Self | None:
        """Return what the ledger has; None if it cannot be read."""
        try:
            rows = tuple(int(row) for row in stored["rows"])
            raw = base64.b64decode(stored["vectors"], validate=True)
            vectors = np.frombuffer(raw, dtype="<f4").reshape(len(rows), int(stored["dimensions"]))
            return cls(str(stored["sha256"]), rows, vectors.astype(np.float32))
        except (KeyError, TypeError, ValueError, binascii.Error):
            return None

    def to_json(self) -> dict[str, object]:
        """Return what the ledger keeps."""
        return {
            "sha256": self.sha256,
            "rows": list(self.rows),
            "dimensions": self.vectors.shape[1],
            "vectors": base64.b64encode(self.vectors.astype("<f4").tobytes()).decode("ascii"),
        }

    def drift_from(self, other: CanaryVectors, limits: SpaceLimits) -> SpaceDrift | None:
        """Return how far the vectors lie from those of `other`; None if they cannot be compared."""
        common = sorted(set(self.rows) & set(other.rows))
        if self.sha256 != other.sha256 or not common or self.vectors.shape[1] != other.vectors.shape[1]:
            return None
        return measure_spaces(self._of(common), other._of(common), tie_tolerance=limits.max_drift)

    def _of(self, rows: list[int]) -> NDArray[np.float32]:
        place = {row: position for position, row in enumerate(self.rows)}
        return self.vectors[[place[row] for row in rows]]


def embed_canaries(
    embedder: Embedder, *, prefix: str, suffix: str = "", is_stopped: Callable[[], bool]
) -> CanaryVectors | None:
    """Embed the canary texts with a running child; None after a stop. Raises as `Embedder.embed` does."""
    canary = Canary.load()
    texts = [prefix + text for text in canary.texts]
    lengths = embedder.count_tokens(texts, suffix=suffix)
    rows = [row for row, tokens in enumerate(lengths) if 0 < tokens <= embedder.model.max_tokens]
    found: list[NDArray[np.float32]] = []
    # One by one: what shares a batch moves a vector by as much as another build does.
    for row in rows:
        if is_stopped():
            return None
        found.append(embedder.embed([texts[row]], suffix=suffix).vectors)
    if not found:
        return None
    return CanaryVectors(canary.sha256, tuple(rows), normalize(np.concatenate(found)))
