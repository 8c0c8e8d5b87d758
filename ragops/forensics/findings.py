"""What the measuring found: which settings explain how many rows, in figures and in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from ragops.forensics.candidates import Candidate
from ragops.quality.bounds import bound_in_words

# Below, similarities among the vectors of a text and among the stored ones have little in common.
ALIKE = 0.5


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings that a writer used."""

    candidate: Candidate
    prefix: str
    pooling: str
    long_text: Literal["mean", "truncate"] | None = None
    """What it did with texts that are too long; None: no sampled text was."""
    max_tokens: int | None = None
    """Where it cut or divided those, in tokens."""
    dimensions: int | None = None
    """Of the stored vectors, where they are the beginning of the model's (Matryoshka)."""

    def __str__(self) -> str:
        parts = [self.candidate.label, f"{self.pooling} pooling"]
        if self.prefix:
            parts.append(f"prefix {json.dumps(self.prefix, ensure_ascii=False)}")
        if self.long_text == "truncate":
            parts.append(f"long texts truncated at {self.max_tokens} tokens")
        elif self.long_text == "mean":
            parts.append(f"long texts as the mean of chunks of {self.max_tokens} tokens")
        if self.dimensions:
            parts.append(f"the first {self.dimensions} dimensions")
        return ", ".join(parts)

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "candidate": self.candidate.to_json()}


@dataclass(frozen=True, slots=True)
class Writer:
    """Settings that explain rows of the sample which those before it do not."""

    recipe: Recipe
    is_exact: bool
    """The rows agree; else they are only near: another quantisation, or texts that were changed a little."""
    rows: int
    """Rows of the sample that it explains."""
    agreeing: int
    """Rows that agree with it, those of other writers included."""
    near: int
    """The same for rows that are near."""
    median: float
    """Median distance of the rows that it explains."""
    same: tuple[str, ...] = ()
    """Other texts with the same vectors."""
    where: str | None = None
    """Condition for its rows, if a column tells them from the others."""

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "recipe": self.recipe.to_json(), "same": list(self.same)}


@dataclass(frozen=True, slots=True)
class Ranked:
    """Settings that were tried, on how many rows, and how they fared."""

    recipe: Recipe
    rows: int
    agreeing: int
    near: int
    median: float | None
    """Of all compared rows; None if none could be compared."""

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "recipe": self.recipe.to_json()}


@dataclass(frozen=True, slots=True)
class Group:
    """The rows with one value of a column."""

    column: str
    """SQL expression."""
    value: str | None
    rows: int
    dimensions: tuple[int, ...]
    writers: tuple[int, ...]
    """Rows by writer, in the order of the writers; the last number is of those that nothing explains."""

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "dimensions": list(self.dimensions), "writers": list(self.writers)}


@dataclass(frozen=True, slots=True)
class Findings:
    """Which text, prefix and pooling made the vectors of a column."""

    table: str
    column: str
    model: str
    total: int
    """Rows with a vector."""
    sampled: int
    writers: tuple[Writer, ...]
    """Those that explain most rows first."""
    unexplained: int
    zero: int
    """Rows of the sample whose vector is zero."""
    dimensions: tuple[int, ...]
    """The lengths of the stored vectors."""
    model_dimensions: int
    is_normalised: bool | None
    """All vectors that something explains, or all if nothing does, have length 1; None without any."""
    ranking: tuple[Ranked, ...]
    groups: tuple[Group, ...]
    """Of the columns that tell writers apart."""
    alike: tuple[str, float] | None = None
    """The text whose similarities follow the stored vectors' best, and the correlation; where nothing agrees."""
    unexplained_where: str | None = None
    unreadable: tuple[tuple[str, str], ...] = ()
    """Candidates that the server refuses, with its reason."""

    @property
    def winner(self) -> Writer | None:
        """The settings that explain most rows."""
        return self.writers[0] if self.writers else None

    @property
    def is_uniform(self) -> bool:
        """One writer explains every row of the sample exactly."""
        return len(self.writers) == 1 and self.writers[0].is_exact and self.unexplained == 0

    def sentences(self) -> Iterator[str]:
        """Yield the findings in words, the most important first."""
        where = f"{self.table}.{self.column}"
        if self.sampled == 0:
            yield f"{where} has no vector yet: nothing can be measured"
            return
        sample = f"{self.sampled} sampled rows of {self.total:,}"
        if not self.writers:
            yield from self._nothing(sample)
        elif self.is_uniform:
            yield f"all {sample} agree with {self.writers[0].recipe}"
            if self.sampled < self.total:
                yield f"0 of {self.sampled} differ: {bound_in_words(0, self.sampled)}"
        else:
            yield from self._several(sample)
        for writer in self.writers:
            if writer.same:
                yield f"the same vectors for this model: {', '.join(writer.same)}"
        if self.zero:
            yield f"{self.zero} of {sample} have a zero vector"
        if len(self.dimensions) > 1:
            yield f"the stored vectors have {' and '.join(map(str, self.dimensions))} dimensions: several models"
        if self.is_normalised is False:
            yield "the stored vectors are not normalised; ragops stores vectors of length 1"
        for label, reason in self.unreadable:
            yield f"{label} cannot be read: {reason}"

    def _several(self, sample: str) -> Iterator[str]:
        parts = [
            f"{self._share(writer.rows)} {'agree with' if writer.is_exact else 'are near'} {writer.recipe}"
            + (f" (where {writer.where})" if writer.where else "")
            for writer in self.writers
        ]
        if self.unexplained:
            where = f" (where {self.unexplained_where})" if self.unexplained_where else ""
            parts.append(f"{self._share(self.unexplained)} agree with nothing{where}")
        exact = sum(writer.is_exact for writer in self.writers)
        kinds = exact + bool(self.unexplained)
        lead = "several writers: " if kinds > 1 else ""
        yield f"{lead}of {sample}, {'; '.join(parts)}"
        if any(not writer.is_exact for writer in self.writers):
            yield "near is what another quantisation or build of the model makes, or a text that changed a little"

    def _nothing(self, sample: str) -> Iterator[str]:
        yield (
            f"no candidate text of this model explains any of {sample}: another model ({self.model} was tried), "
            "or another text"
        )
        if all(dimensions > self.model_dimensions for dimensions in self.dimensions):
            stored = " and ".join(map(str, self.dimensions))
            yield f"the stored vectors have {stored} dimensions, the model's have {self.model_dimensions}"
        if self.alike and self.alike[1] >= ALIKE:
            label, correlation = self.alike
            yield (
                f"the similarities among the stored vectors follow those of {label} (correlation "
                f"{correlation:.2f}): probably another model made them from that text"
            )

    def _share(self, rows: int) -> str:
        return f"{round(100 * rows / self.sampled)} %"

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            **asdict(self),
            "writers": [writer.to_json() for writer in self.writers],
            "ranking": [ranked.to_json() for ranked in self.ranking],
            "groups": [group.to_json() for group in self.groups],
            "dimensions": list(self.dimensions),
            "unreadable": [{"candidate": label, "reason": reason} for label, reason in self.unreadable],
            "alike": None if self.alike is None else {"candidate": self.alike[0], "correlation": self.alike[1]},
            "is_uniform": self.is_uniform,
            "sentences": list(self.sentences()),
        }
