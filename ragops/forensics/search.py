"""Search the text, prefix and pooling that explain stored vectors, the cheap questions first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_text
from ragops.forensics.candidates import Candidate
from ragops.forensics.embedding import WHOLE, Embedding, Fit, Fitted, fitted
from ragops.forensics.sample import Row
from ragops.postgres.stored_texts import Place, StoredTexts, UnreadableText
from ragops.quality.drift import cosine_distances
from ragops.quality.vectors import normalize
from ragops.session import Session

# How many of the best texts are tried with every pooling, how many pairs of text and pooling with every prefix,
# and on how many rows. Each text that is embedded takes a large model a second.
WITH_POOLINGS, WITH_PREFIXES, FEW_ROWS = 4, 4, 5
# Every prefix leaves a vector near: only the best are tried on the other rows, too.
WITH_ALL_ROWS = 4
# Rows that must have vectors of one length, so that similarities among them say something.
STRUCTURED_ROWS = 6
# Vectors that agree so well were made with these settings: halfvec moves a vector by 1e-7, another build by 1e-5.
SURE = 1e-5
# Of the rows that one search looks at: with fewer that agree it goes on.
SETTLED_SHARE = 1 / 3

Distances = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Limits:
    """Cosine distances within which vectors agree, and within which they are near."""

    exact: float
    near: float


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One text, prefix, pooling and way to make long texts fit, with its distances to the stored vectors."""

    candidate: Candidate
    prefix: str
    pooling: str
    fit: Fit
    distances: Distances
    """Shape (rows,); NaN where a row has no text, or no vector that can be compared."""
    is_fitted: bool
    """A text of these rows was too long."""

    def hits(self, limit: float) -> int:
        return int((self.distances <= limit).sum())

    def median(self, limit: float) -> float:
        """Return the median distance of the rows within the limit; infinite without any."""
        within = self.distances[self.distances <= limit]
        return float(np.median(within)) if len(within) else float("inf")

    @property
    def low(self) -> float:
        """The lower quartile: where several writers were at work, the median tells of another one."""
        known = self.distances[~np.isnan(self.distances)]
        return float(np.quantile(known, 0.25)) if len(known) else float("inf")


@dataclass
class Search:
    """The candidates against the stored vectors of some rows. Belongs to one thread."""

    session: Session
    stored: StoredTexts
    embedding: Embedding
    candidates: Sequence[Candidate]
    limits: Limits
    unreadable: dict[Candidate, str] = field(default_factory=dict)
    structures: dict[Candidate, float] = field(default_factory=dict)
    """How well the similarities among the vectors of each text follow those among the stored (correlation)."""
    _texts: dict[Candidate, dict[Place, str | None]] = field(default_factory=dict)

    def trials(self, rows: Sequence[Row]) -> list[Trial]:
        """Return what was tried on these rows, until something explains enough of them."""
        own, *others = self.embedding.poolings
        first = tuple(dict.fromkeys((self.embedding.settings.document_prefix, "")))
        found = [
            trial
            for prefix in first
            for candidate in self.candidates
            for trial in self.measure(candidate, prefix, own, rows, with_structure=True)
        ]
        if self._is_settled(found, rows):
            return found
        few = shortest(rows, FEW_ROWS)
        short = self._shortlist(found, WITH_POOLINGS)
        # Other tools' limits: a text that this model can read whole may have been cut.
        for with_cuts, poolings in ((True, [own]), (False, others)):
            for pooling in poolings:
                for prefix in first:
                    for candidate in short:
                        found += self.measure(candidate, prefix, pooling, rows, with_cuts=with_cuts)
            if self._is_settled(found, rows):
                return found
        tried = [
            trial
            for candidate, pooling in self._nearest_pairs(found)
            for prefix in self.embedding.prefixes
            if prefix not in first
            for trial in self.measure(candidate, prefix, pooling, few)
        ]
        tried.sort(key=lambda trial: (-trial.hits(self.limits.exact), trial.low))
        for trial in tried[:WITH_ALL_ROWS]:
            found += self.measure(trial.candidate, trial.prefix, trial.pooling, rows)
        return found

    def best(self, trials: Iterable[Trial], limit: float) -> Trial | None:
        """Return the trial that explains most rows, of several the nearest; None if none explains any."""
        explaining = [trial for trial in trials if trial.hits(limit)]
        # Of equally near ones the first: texts are tried from the simplest one on.
        return min(explaining, key=lambda t: (-t.hits(limit), _closeness(t.median(limit))), default=None)

    def measure(
        self,
        candidate: Candidate,
        prefix: str,
        pooling: str,
        rows: Sequence[Row],
        *,
        with_cuts: bool = False,
        with_structure: bool = False,
    ) -> list[Trial]:
        """Return the trials of one text, one for each way to make it fit that gives other distances."""
        texts = {
            place: text
            for place, stored in enumerate(self._texts_of(candidate, rows))
            if (text := _as_embedded(stored)) is not None
        }
        if not texts:
            return []
        places = list(texts)
        vectors = self.embedding.vectors(list(texts.values()), prefix=prefix, pooling=pooling, with_cuts=with_cuts)
        if with_structure:
            correlation = structure([rows[p].vector for p in places], [_any(found) for found in vectors])
            self.structures[candidate] = max(correlation, self.structures.get(candidate, -1.0))
        trials: list[Trial] = []
        for fit in self.embedding.fits(with_cuts=with_cuts):
            distances = np.full(len(rows), np.nan)
            for place, found in zip(places, vectors, strict=True):
                distances[place] = distance(rows[place].vector, fitted(found, fit))
            if not any(np.array_equal(distances, one.distances, equal_nan=True) for one in trials):
                is_fitted = any(WHOLE not in found or fit in found for found in vectors)
                trials.append(Trial(candidate, prefix, pooling, fit, distances, is_fitted))
        return trials

    def _is_settled(self, trials: Sequence[Trial], rows: Sequence[Row]) -> bool:
        best = self.best(trials, self.limits.exact)
        if best is None or best.median(self.limits.exact) > SURE:
            return False
        return best.hits(self.limits.exact) >= max(1, len(rows) * SETTLED_SHARE)

    def _shortlist(self, trials: Sequence[Trial], count: int) -> list[Candidate]:
        """Return the texts whose vectors are nearest, and those whose similarities among each other fit best.

        Of texts with equal vectors only the first.
        """
        distinct = self._distinct(trials)
        near = sorted((t for t in trials if t.candidate in distinct), key=lambda trial: trial.low)
        nearest = list(dict.fromkeys(trial.candidate for trial in near))
        alike = sorted(nearest, key=lambda candidate: -self.structures.get(candidate, -1.0))
        both = [candidate for pair in zip(nearest, alike, strict=True) for candidate in pair]
        return list(dict.fromkeys(both))[:count]

    def _nearest_pairs(self, trials: Sequence[Trial]) -> list[tuple[Candidate, str]]:
        """Return the nearest texts with their pooling: a prefix moves a vector less than another text does."""
        distinct = self._distinct(trials)
        near = sorted((t for t in trials if t.candidate in distinct), key=lambda trial: trial.low)
        return list(dict.fromkeys((trial.candidate, trial.pooling) for trial in near))[:WITH_PREFIXES]

    def _distinct(self, trials: Sequence[Trial]) -> set[Candidate]:
        """Return the texts without those whose vectors are the same as an earlier one's."""
        first: dict[bytes, Candidate] = {}
        seen: set[Candidate] = set()
        for trial in trials:
            if trial.candidate not in seen:
                seen.add(trial.candidate)
                first.setdefault(np.round(trial.distances, 9).tobytes(), trial.candidate)
        return set(first.values())

    def _texts_of(self, candidate: Candidate, rows: Sequence[Row]) -> list[str | None]:
        known = self._texts.setdefault(candidate, {})
        missing = [row.place for row in rows if row.place not in known]
        if missing and candidate not in self.unreadable:
            target = self.stored.target(text=candidate.text, expression=candidate.sql)
            try:
                found = self.session.through_outages(
                    lambda: replace(self.stored, connection=self.session.connection).texts(target, missing)
                )
                known.update({place: found.get(place) for place in missing})
            except UnreadableText as error:
                self.unreadable[candidate] = error.actual or error.what
        return [known.get(row.place) for row in rows]


def shortest(rows: Sequence[Row], count: int) -> list[Row]:
    """Return some rows with short texts, in their order."""
    chosen = {row.place for row in sorted(rows, key=lambda row: row.weight)[:count]}
    return [row for row in rows if row.place in chosen]


def _as_embedded(text: str | None) -> str | None:
    """Return what a campaign would embed of a row's text; None for nothing."""
    try:
        return extract_text(text or "").text.strip()
    except Unreadable:
        return None


def distance(stored: NDArray[np.float32], own: NDArray[np.float32] | None) -> float:
    """Return the cosine distance; a shorter stored vector is compared with the beginning (Matryoshka)."""
    if own is None or len(own) < len(stored):
        return float("nan")
    return float(cosine_distances(stored[None, :], own[None, : len(stored)])[0])


def structure(stored: Sequence[NDArray[np.float32]], own: Sequence[NDArray[np.float32] | None]) -> float:
    """Return how the similarities among `own` correlate with those among `stored`, -1 to 1; -1 for too few rows.

    It needs no common space: vectors that another model made of the same texts correlate, too.
    """
    lengths = [len(vector) for vector in stored]
    usual = max(set(lengths), key=lengths.count) if lengths else 0
    pairs = [(s, o) for s, o in zip(stored, own, strict=True) if o is not None and len(s) == usual]
    if len(pairs) < STRUCTURED_ROWS:
        return -1.0
    similar = [_similarities(np.stack([pair[side] for pair in pairs])) for side in (0, 1)]
    if min(np.std(one) for one in similar) < 1e-9:
        return -1.0
    return float(np.asarray(np.corrcoef(np.stack(similar)))[0, 1])


def _similarities(vectors: NDArray[np.float32]) -> Distances:
    units = np.nan_to_num(normalize(vectors).astype(np.float64))
    return np.asarray((units @ units.T)[np.triu_indices(len(units), 1)])


def _any(found: Fitted) -> NDArray[np.float32] | None:
    return next(iter(found.values()), None)


def _closeness(median: float) -> int:
    """Return a number for how near vectors are, the same for what only rounding tells apart."""
    return 0 if median <= 1e-6 else int(np.ceil(np.log10(median / 1e-6)))
