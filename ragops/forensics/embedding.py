"""Embed candidate texts with every pooling and prefix, and in the ways in which long texts are made to fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import methodcaller
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ragops.documents.chunking import Chunker
from ragops.documents.errors import Unreadable
from ragops.embedder.child_engine import USABLE_POOLINGS
from ragops.embedder.client import Embedder, TokenIds
from ragops.embedder.config import embedder_config, side_threads
from ragops.embedder.starting import STARTS_AGAIN, open_embedder
from ragops.errors import EmbedderDied, UsageError
from ragops.facts import ModelFacts
from ragops.fingerprint.trials import KNOWN_PREFIXES
from ragops.playbook.model import Model
from ragops.quality.vectors import mean_vector
from ragops.session import Session
from ragops.subprocesses import is_from_outside
from ragops.workers.long_texts import tail_length, truncated

Vector = NDArray[np.float32]
Result = TypeVar("Result")
# What models ask for before documents or queries (BGE, E5, nomic-embed-text, EmbeddingGemma, mxbai), and what is
# often written instead.
PREFIXES = (
    *KNOWN_PREFIXES,
    "passage : ",
    "classification: ",
    "document: ",
    "title: none | text: ",
    "Represent this sentence for searching relevant passages: ",
    "Represent this sentence: ",
)
# Where other tools cut texts, whatever the model could read: sentence-transformers' max_seq_length of many models.
CUTS = (512, 384, 256, 128)
# A text of more chunks is not compared as the mean of its chunks.
MOST_CHUNKS = 16
# A request has a deadline: of the largest texts this many take a minute.
PER_REQUEST = 8


@dataclass(frozen=True, slots=True, order=True)
class Fit:
    """How texts are made to fit that have more than `tokens`: `mean` of chunks, or `truncate`."""

    tokens: int
    how: str

    def __str__(self) -> str:
        what = "mean of chunks" if self.how == "mean" else "truncated"
        return f"{what} at {self.tokens} tokens"


# A text that fits as it is.
WHOLE = Fit(0, "whole")
# The vectors of one text, by the ways to make it fit.
Fitted = dict[Fit, Vector]


def fitted(vectors: Fitted, fit: Fit) -> Vector | None:
    """Return the vector of a text that is made to fit in this way; None if it has none."""
    return vectors.get(fit, vectors.get(WHOLE))


@dataclass
class Embedding:
    """One child for each pooling, which llama.cpp fixes when it loads a model; equal texts are embedded once."""

    session: Session
    settings: Model
    _children: dict[str, Embedder] = field(default_factory=dict)
    _known: dict[tuple[str, bytes], Vector] = field(default_factory=dict)
    _own: str = ""
    _tail: int = 0

    def __enter__(self) -> Self:
        child = self._start(self.settings.pooling)
        self._own = child.model.pooling
        self._children[self._own] = child
        self._tail = tail_length(child, suffix=self.settings.document_suffix)
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.close()

    @property
    def model(self) -> ModelFacts:
        return self._children[self._own].model

    @property
    def poolings(self) -> tuple[str, ...]:
        """The poolings to try, the model's or the playbook's first."""
        return (self._own, *(name for name in USABLE_POOLINGS if name != self._own))

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes to try: the playbook's, none, the known ones."""
        own = (self.settings.document_prefix, self.settings.query_prefix)
        return tuple(dict.fromkeys((own[0], "", own[1], *PREFIXES)))

    def fits(self, *, with_cuts: bool) -> tuple[Fit, ...]:
        """Return the ways to make a long text fit, ragops' own first; with cuts those of other tools, too."""
        most = self.model.max_tokens
        cuts = (most, *(cut for cut in CUTS if cut < most)) if with_cuts else (most,)
        return (Fit(most, "mean"), *(Fit(cut, "truncate") for cut in cuts))

    def vectors(self, texts: Sequence[str], *, prefix: str, pooling: str, with_cuts: bool = False) -> list[Fitted]:
        """Return the vectors of each text as pooled, by the ways of `fits`; none for one without tokens.

        Raises Stopped, and as `Embedder` does.
        """
        ids = self._tokenise([prefix + text for text in texts])
        fits = self.fits(with_cuts=with_cuts)
        wanted = [dict(self._cut(own, prefix, text, fits)) for own, text in zip(ids, texts, strict=True)]
        self._embed(pooling, [part for cuts in wanted for parts in cuts.values() for part in parts])
        return [
            {fit: self._vector(pooling, parts) for fit, parts in cuts.items() if all(len(part) for part in parts)}
            for cuts in wanted
        ]

    def _cut(
        self, ids: TokenIds, prefix: str, text: str, fits: Sequence[Fit]
    ) -> Iterator[tuple[Fit, list[TokenIds]]]:
        """Yield the ways to make a text fit, each with what is embedded."""
        most = self.model.max_tokens
        if len(ids) <= most:
            yield WHOLE, [ids]
        for fit in fits:
            if len(ids) <= fit.tokens:
                continue
            if fit.how == "truncate":
                yield fit, [truncated(ids, limit=fit.tokens, tail=self._tail)]
            elif len(ids) <= MOST_CHUNKS * most and (chunks := self._chunks(prefix, text)):
                yield fit, chunks

    def _chunks(self, prefix: str, text: str) -> list[TokenIds]:
        suffix = self.settings.document_suffix
        try:
            chunker = Chunker(
                count_tokens=lambda texts: self._children[self._own].count_tokens(texts, suffix=suffix),
                max_tokens=self.model.max_tokens,
                prefix=prefix,
                check_stop=self.session.stop.check,
            )
            return self._tokenise([prefix + chunk.text for chunk in chunker.chunk(text)])
        except (Unreadable, UsageError):
            return []

    def _vector(self, pooling: str, parts: Sequence[TokenIds]) -> Vector:
        vectors = [self._known[pooling, part.tobytes()] for part in parts]
        return vectors[0] if len(vectors) == 1 else mean_vector(np.stack(vectors))

    def _tokenise(self, texts: Sequence[str]) -> list[TokenIds]:
        suffix = self.settings.document_suffix
        return self._with_child(self._own, lambda child: child.tokenise(texts, suffix=suffix)) if texts else []

    def _embed(self, pooling: str, parts: Sequence[TokenIds]) -> None:
        """Embed what is not known yet, each text alone: what shares its batch would move a vector."""
        new = {part.tobytes(): part for part in parts if len(part)}
        missing = [part for key, part in new.items() if (pooling, key) not in self._known]
        for start in range(0, len(missing), PER_REQUEST):
            self.session.stop.check()
            group = missing[start : start + PER_REQUEST]
            found = self._with_child(pooling, methodcaller("embed_tokens", group)).vectors
            for part, vector in zip(group, found, strict=True):
                self._known[pooling, part.tobytes()] = vector

    def _with_child(self, pooling: str, work: Callable[[Embedder], Result]) -> Result:
        """Run `work` with the pooling's child; with another one if it was killed from outside."""
        for attempt in range(STARTS_AGAIN + 1):
            if pooling not in self._children:
                self._children[pooling] = self._start(pooling)
            try:
                return work(self._children[pooling])
            except EmbedderDied as death:
                if attempt == STARTS_AGAIN or not is_from_outside(death.returncode):
                    raise
                self.session.reporter.info(f"{death.what}; going on with another one")
                self._children[pooling].close()
                self._children[pooling] = self._start(pooling)
        raise AssertionError("the last attempt returns or raises")

    def _start(self, pooling: str) -> Embedder:
        """Start a child that embeds each text alone."""
        playbook = self.session.playbook.model_copy(update={"model": self.settings})
        config = replace(embedder_config(playbook, threads=side_threads(), tokens_per_batch=1), pooling=pooling)
        return open_embedder(config, command=self.session.embedder_command)
