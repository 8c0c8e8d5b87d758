"""An OpenAI-compatible endpoint: llama-server, llama_cpp.server, Ollama, TEI and others."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from ragops.playbook.model import OpenAIReference
from ragops.references.http import PATIENCE, Credential, HttpClient, ReferenceError
from ragops.references.messages import shown_url
from ragops.retry import Backoff

SETTING = "reference.openai.api_key_env"
_TOO_MUCH = frozenset({413, 422, 424})


class OpenAIEndpoint:
    """Embeds texts as the backend does. Vectors come as the server gives them: some normalise, some do not.

    `api_key` is the key itself, which no message repeats; `batch` is the most texts a request.
    """

    def __init__(
        self,
        settings: OpenAIReference,
        *,
        api_key: str | None,
        batch: int = 16,
        backoff: Backoff = PATIENCE,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ReferenceError for a key that no header can carry; ValueError for a batch below 1."""
        if batch < 1:
            raise ValueError(f"a batch of {batch} texts")
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._batch = batch
        self._http = HttpClient(
            Credential(api_key, SETTING, settings.api_key_env),
            timeout_s=settings.timeout_s,
            backoff=backoff,
            transport=transport,
            sleep=sleep,
        )

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors in the order of the texts, shape (n, d); (0, 0) for no texts. Raises ReferenceError.

        Some servers cannot embed several texts a request (llama_cpp.server of some versions answers
        HTTP 500): from the first such answer on, each text goes alone.
        """
        parts: list[NDArray[np.float32]] = []
        place = 0
        while place < len(texts):
            batch = texts[place : place + self._batch]
            try:
                vectors = self._request(batch)
            except ReferenceError as error:
                if len(batch) > 1 and _may_be_too_much(error.status):
                    self._batch = 1
                    continue
                error.where = f"{error.where}, {_range(place, len(batch), len(texts))}"
                raise
            if parts and parts[0].shape[1] != vectors.shape[1]:
                raise self._wrong(f"{parts[0].shape[1]} numbers, then {vectors.shape[1]}", "rows of one length")
            parts.append(vectors)
            place += len(batch)
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)

    def describe(self) -> dict[str, Any]:
        """What the server says of itself: `url`, `model` (asked for), `models` (id and what else it tells).

        `models` is None, with the reason in `problem`, where it says nothing; that is no error.
        """
        known: dict[str, Any] = {"url": shown_url(self._url), "model": self._settings.model}
        try:
            answer = self._http.ask("GET", f"{self._url}/models", is_patient=False)
        except ReferenceError as error:
            return {**known, "models": None, "problem": f"{error.what} ({error.actual or 'GET /models'})"}
        listed = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(listed, list):
            return {**known, "models": None, "problem": "GET /models answers no list"}
        kept = ("id", "owned_by", "created", "meta")
        models = [{k: one[k] for k in kept if k in one} for one in listed if isinstance(one, dict)]
        return {**known, "models": models}

    def close(self) -> None:
        """Close the connections; the endpoint cannot be asked afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, texts: Sequence[str]) -> NDArray[np.float32]:
        # As the embedder child does it: a lone surrogate must not reach a tokenizer.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        answer = self._http.ask(
            "POST",
            f"{self._url}/embeddings",
            body={"model": self._settings.model, "input": clean},
            hint_404=self._hint_404(),
        )
        try:
            return read_vectors(answer, expected=len(texts))
        except UnusableVectors as error:
            raise self._wrong(error.actual, error.expected) from None

    def _hint_404(self) -> str:
        model = f"and does the server know the model {self._settings.model!r} (reference.openai.model)?"
        if "/v1" in self._url:
            return f"does the server offer embeddings at all (llama-server: --embedding), {model}"
        return f"is /v1 missing in reference.openai.url? Most servers answer under http://HOST:PORT/v1; {model}"

    def _wrong(self, found: str, needed: str) -> ReferenceError:
        return self._http.fault(
            "the reference's answer holds no usable vectors",
            f"{self._url}/embeddings",
            actual=found,
            expected=needed,
        )


class UnusableVectors(ValueError):
    """An answer of another shape than OpenAI's embeddings."""

    def __init__(self, actual: str, expected: str) -> None:
        super().__init__(f"{actual}; needed: {expected}")
        self.actual = actual
        self.expected = expected


def read_vectors(answer: Any, *, expected: int) -> NDArray[np.float32]:
    """The vectors of an answer in the order of `index`, shape (expected, d). Raises UnusableVectors."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        keys = f"an object with {', '.join(map(str, answer)) or 'nothing'}" if isinstance(answer, dict) else None
        found = keys or f"a {type(answer).__name__}"
        raise UnusableVectors(found, 'an object with a list "data"')
    if len(data) != expected:
        raise UnusableVectors(f"{len(data)} rows", f"{expected}, one for each text")
    if not all(isinstance(row, dict) and "embedding" in row for row in data):
        raise UnusableVectors('a row without "embedding"', '{"index": …, "embedding": …} for each text')
    rows = [_vector(row["embedding"], number) for number, row in enumerate(_ordered(data))]
    widths = sorted({len(row) for row in rows})
    if len(widths) != 1:
        raise UnusableVectors(f"rows of {' and '.join(map(str, widths))} numbers", "rows of one length")
    return np.stack(rows)


def _ordered(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    places: list[Any] = [row.get("index") for row in data]
    if all(place is None for place in places):
        return data
    if any(type(place) is not int for place in places) or sorted(places) != list(range(len(data))):
        shown = ", ".join(repr(place) for place in places[:5])
        raise UnusableVectors(f"index {shown}", f"each of 0 to {len(data) - 1} once")
    return sorted(data, key=lambda row: int(row["index"]))


def _vector(value: Any, number: int) -> NDArray[np.float32]:
    """One row as float32 (d,), from a list of numbers or from base64 of little-endian float32."""
    row = _decoded(value, number) if isinstance(value, str) else _listed(value, number)
    if row.size == 0:
        raise UnusableVectors(f"no number in row {number}", "a vector")
    wrong = np.flatnonzero(~np.isfinite(row))
    if wrong.size:
        place = int(wrong[0])
        raise UnusableVectors(f"{row[place]} at position {place} of row {number}", "finite numbers")
    return row


def _decoded(value: str, number: int) -> NDArray[np.float32]:
    try:
        raw = base64.b64decode(value, validate=True)
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        found = f"a text in row {number} that is no base64 of 4-byte floats"
        raise UnusableVectors(found, "numbers, or base64 of float32") from None


def _listed(value: Any, number: int) -> NDArray[np.float32]:
    if not isinstance(value, list):
        raise UnusableVectors(f"a {type(value).__name__} as embedding in row {number}", "a list of numbers")
    if value and isinstance(value[0], list):
        needed = "one vector a text: the server must pool (llama-server: --pooling mean)"
        raise UnusableVectors(f"{len(value)} vectors in row {number}, one a token", needed)
    wrong = next((place for place, one in enumerate(value) if type(one) not in (int, float)), None)
    if wrong is not None:
        kind = "null" if value[wrong] is None else type(value[wrong]).__name__
        hint = " (servers write a NaN as null)" if value[wrong] is None else ""
        raise UnusableVectors(f"{kind} at position {wrong} of row {number}{hint}", "finite numbers")
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype=np.float64).astype(np.float32)
    except OverflowError:
        raise UnusableVectors(f"a number in row {number} that no float holds", "finite numbers") from None


def _may_be_too_much(status: int | None) -> bool:
    """Whether fewer texts a request may help: TEI and gateways answer 413, 422 or 424 to large batches."""
    return status is not None and (status in _TOO_MUCH or (status >= 500 and status != 503))


def _range(place: int, length: int, total: int) -> str:
    return f"text {place + 1} of {total}" if length == 1 else f"texts {place + 1} to {place + length} of {total}"
