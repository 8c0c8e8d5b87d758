"""Cut texts and turn them into token ids, with a separate child that has loaded the model's vocabulary only.

It replies at once, however busy the embedders are: cutting a long document takes several requests per chunk.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ragops.documents.chunking import Chunk
from ragops.documents.errors import Unreadable
from ragops.documents.extraction import Extracted
from ragops.documents.reading import UnknownTokens
from ragops.embedder.client import Embedder, TokenIds
from ragops.errors import EmbedderError
from ragops.playbook.model import Playbook
from ragops.workers.long_texts import beginning, tail_length, truncated
from ragops.workers.sources import Preparer
from ragops.workers.state import Stats, Stop
from ragops.workers.supervisor import ConsecutiveFailures, Supervisor, try_twice

# Documents, or chunks of one, per request. A round trip is shared by many, and after a crash at most this many
# are tried one by one.
TEXTS_PER_REQUEST = 256
# A document's time for being cut: ten times what the slowest text takes (base64, 28 s per million characters on a
# busy machine: `benchmarks/cutting.py`). It ends what a splitter or a vocabulary does not end by itself.
CUTTING_S, CUTTING_S_PER_MILLION = 300.0, 300.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """One document's chunks, and the token ids of each, with prefix and separators."""

    chunks: tuple[Chunk, ...]
    ids: tuple[TokenIds, ...]
    unknown: UnknownTokens | None = None
    """None: not measured."""


class Tokenizer:
    """Cut documents to what the model takes; a document that crashes the child fails alone."""

    def __init__(
        self,
        start: Callable[[], Embedder],
        playbook: Playbook,
        *,
        stop: Stop,
        stats: Stats,
        failures: ConsecutiveFailures,
    ) -> None:
        """Start the child. Raises as `Embedder` does, UsageError if prefix and overlap leave no room for text."""
        self._stop = stop
        self._due_at = math.inf
        self._seconds = 0.0
        self._supervisor = Supervisor(start, stop=stop, stats=stats, failures=failures)
        try:
            self._preparer = self._supervisor.ask(lambda embedder: self._make_preparer(embedder, playbook))
            self._unknown_token = self._supervisor.embedder.model.unknown_token
            # Length of prefix, suffix and separators in tokens, and how many of these are unknown.
            self._frame = (0, 0) if self._unknown_token is None else self._supervisor.ask(self._measure_frame)
        except BaseException:
            self._supervisor.close()
            raise

    def _make_preparer(self, embedder: Embedder, playbook: Playbook) -> Preparer:
        """Return the preparer, which measures the prefix before the first document."""
        return Preparer(
            playbook,
            max_tokens=embedder.model.max_tokens,
            # Not a bound method: the supervisor replaces its embedder.
            count_tokens=lambda texts, *, suffix: self._supervisor.embedder.count_tokens(texts, suffix=suffix),
            check_stop=self._check,
        )

    def _measure_frame(self, embedder: Embedder) -> tuple[int, int]:
        frame = embedder.tokenise([self._preparer.prefix], suffix=self._preparer.suffix)[0]
        return len(frame), int((frame == self._unknown_token).sum())

    def kill(self) -> None:
        """End the child at once, from any thread."""
        self._supervisor.kill()

    def close(self) -> None:
        self._supervisor.close()

    def prepare(self, documents: Sequence[tuple[object, Extracted]]) -> list[Prepared | Unreadable]:
        """Cut documents, given as (item id, text); return them in the same order, or why one cannot be cut.

        Raises EmbedderError if the child fails whatever it is given, Stopped if a stop was requested.
        """
        prepared: list[Prepared | Unreadable] = []
        for start in range(0, len(documents), TEXTS_PER_REQUEST):
            self._stop.check()
            group = documents[start : start + TEXTS_PER_REQUEST]
            whole = self._tokenise_whole(group)
            prepared += [whole.get(id) or self._cut(id, extracted) for id, extracted in group]
        return prepared

    def _tokenise_whole(self, group: Sequence[tuple[object, Extracted]]) -> dict[object, Prepared]:
        """Tokenise the documents that fit into one chunk, in one request; none if the child refuses or dies."""
        # Asked first: a copy of a long text takes as much memory as the text.
        some = [(id, extracted.text) for id, extracted in group if self._preparer.may_fit(extracted.text)]
        short = [(id, text.strip()) for id, text in some]
        prefixed, suffix = [self._preparer.prefix + text for _, text in short], self._preparer.suffix
        try:
            tokenised = self._supervisor.embedder.tokenise(prefixed, suffix=suffix)
        except EmbedderError:
            # One by one, `_cut` finds the culprit without blaming the others.
            return {}
        return {
            id: Prepared((Chunk(0, text, len(ids)),), (ids,), self._unknown([ids]))
            for (id, text), ids in zip(short, tokenised, strict=True)
            if len(ids) <= self._preparer.max_tokens
        }

    def _unknown(self, texts: Sequence[TokenIds]) -> UnknownTokens | None:
        """Count a document's unknown tokens; None where the vocabulary spells every byte and has no such token.

        Bytes that stand for a sign the vocabulary lacks are no unknown tokens: they keep what the sign is. Prefix,
        suffix and separators are left out; a prefix that merges with a text's first token counts for a token more.
        """
        token = self._unknown_token
        if token is None:
            return None
        length, unknown = self._frame
        own = sum(max(0, len(ids) - length) for ids in texts)
        found = sum(max(0, int((ids == token).sum()) - unknown) for ids in texts)
        return UnknownTokens(min(found, own), own)

    def _cut(self, id: object, extracted: Extracted) -> Prepared | Unreadable:
        def cut(embedder: Embedder) -> Prepared:
            if extracted.long_text != "mean":
                return self._cut_off(embedder, extracted)
            chunks = self._preparer.chunk(extracted.text, markdown=extracted.media_type == "text/markdown")
            texts = [self._preparer.prefix + chunk.text for chunk in chunks]
            ids: list[TokenIds] = []
            # A text of 64 MiB takes the child a minute, during which a stop would not be noticed.
            for start in range(0, len(texts), TEXTS_PER_REQUEST):
                self._check()
                batch = texts[start : start + TEXTS_PER_REQUEST]
                ids += embedder.tokenise(batch, suffix=self._preparer.suffix)
            return Prepared(chunks, tuple(ids), self._unknown(ids))

        self._seconds = CUTTING_S + CUTTING_S_PER_MILLION * len(extracted.text) / 1e6
        self._due_at = time.monotonic() + self._seconds
        try:
            return try_twice(self._supervisor, id, cut)
        except Unreadable as failure:
            return failure
        finally:
            self._due_at = math.inf

    def _cut_off(self, embedder: Embedder, extracted: Extracted) -> Prepared:
        """Return a long text's beginning alone. Raises Unreadable if it must not be cut."""
        limit, suffix = self._preparer.max_tokens, self._preparer.suffix
        text = beginning(extracted.text.strip(), limit=limit)
        ids = embedder.tokenise([self._preparer.prefix + text], suffix=suffix)[0]
        if len(ids) > limit and extracted.long_text == "fail":
            raise Unreadable(f"{len(ids):,} tokens, and the model takes {limit:,} (long_text: fail)")
        ids = truncated(ids, limit=limit, tail=tail_length(embedder, suffix=suffix))
        return Prepared((Chunk(0, text, len(ids)),), (ids,), self._unknown([ids]))

    def _check(self) -> None:
        """Raise Stopped if a stop was requested, and Unreadable for a document that is cut for too long."""
        self._stop.check()
        if time.monotonic() > self._due_at:
            raise Unreadable(f"not cut into chunks within {self._seconds:,.0f} s")
