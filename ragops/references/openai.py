"""An OpenAI-compatible endpoint: llama-server, llama_cpp.server, Ollama, TEI and others."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx
import numpy as np
from numpy.typing import NDArray

from ragops.errors import ReferenceFailed
from ragops.playbook.endpoints import shown_url
from ragops.playbook.model import OpenAIReference
from ragops.references.http import PATIENCE, Credential, Endpoint, HttpClient, UnusableResponse
from ragops.retry import Backoff

SETTING = "reference.openai.api_key_env"
# What TEI and gateways return for a batch that is too large; a 5xx may mean the same, see `embed`.
_TOO_LARGE = frozenset({413, 422, 424})
_MODEL_KEYS = ("id", "owned_by", "created", "meta")


@dataclass(frozen=True, slots=True)
class ServerDescription:
    """What the server reports about itself."""

    url: str
    model: str
    """The name that requests carry."""
    models: tuple[Mapping[str, object], ...] | None
    """What `GET /models` lists: `id` and some of `owned_by`, `created`, `meta`; None: see `problem`."""
    problem: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the description as a fingerprint holds it under `model`; `problem` only if there is one."""
        models = None if self.models is None else [dict(model) for model in self.models]
        described: dict[str, object] = {"url": self.url, "model": self.model, "models": models}
        return described if self.problem is None else {**described, "problem": self.problem}


class OpenAIEndpoint(Endpoint):
    """Embeds texts as the backend does. Vectors come as the server sends them; some servers normalise.

    `api_key` is the key itself, which no message repeats; `batch` is the most texts per request.
    """

    def __init__(
        self,
        settings: OpenAIReference,
        *,
        api_key: str | None,
        batch: int = 16,
        backoff: Backoff = PATIENCE,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Raises ReferenceFailed for a key that no header can carry, ValueError for a batch below 1."""
        if batch < 1:
            raise ValueError(f"a batch of {batch} texts")
        super().__init__(
            HttpClient(
                Credential(api_key, SETTING, settings.api_key_env),
                timeout_s=settings.timeout_s,
                allow_plaintext=settings.allow_plaintext,
                backoff=backoff,
                transport=transport,
            )
        )
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._batch = batch

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors in the order of the texts, shape (n, d); (0, 0) for no texts.

        Raises ReferenceFailed.
        """
        parts: list[NDArray[np.float32]] = []
        start = 0
        while start < len(texts):
            batch = texts[start : start + self._batch]
            try:
                vectors = self._request(batch)
            except ReferenceFailed as error:
                # llama-cpp-python 0.3.16 cannot embed several texts per request ("llama_decode returned -1",
                # HTTP 500). From the first such response on, each text is sent alone. 503 is a busy server.
                status = error.status or 0
                if len(batch) > 1 and (status in _TOO_LARGE or (status >= 500 and status != 503)):
                    self._batch = 1
                    continue
                last = start + len(batch)
                which = f"text {last}" if len(batch) == 1 else f"texts {start + 1} to {last}"
                error.where = f"{error.where}, {which} of {len(texts)}"
                raise
            if parts and parts[0].shape[1] != vectors.shape[1]:
                actual = f"{parts[0].shape[1]} numbers, then {vectors.shape[1]}"
                raise self._unusable(UnusableResponse(actual, "rows of one length"))
            parts.append(vectors)
            start += len(batch)
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)

    def describe(self) -> ServerDescription:
        """Return what the server reports about itself; a server that reports nothing is not an error."""
        url, model = shown_url(self._url), self._settings.model
        try:
            response = self._http.request("GET", f"{self._url}/models", is_patient=False)
        except ReferenceFailed as error:
            return ServerDescription(url, model, None, f"{error.what} ({error.actual or 'GET /models'})")
        listed = response.get("data") if isinstance(response, dict) else None
        if not isinstance(listed, list):
            return ServerDescription(url, model, None, "GET /models returned no list")
        entries = [entry for entry in listed if isinstance(entry, dict)]
        return ServerDescription(url, model, tuple({k: e[k] for k in _MODEL_KEYS if k in e} for e in entries))

    def _request(self, texts: Sequence[str]) -> NDArray[np.float32]:
        # As in the embedder process: a lone surrogate must not reach a tokenizer.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        hint = f"and does the server have the model {self._settings.model!r} (reference.openai.model)?"
        if "/v1" in self._url:
            hint = f"does the server offer embeddings at all (llama-server: --embedding), {hint}"
        else:
            hint = f"is /v1 missing in reference.openai.url? most servers expect http://HOST:PORT/v1; {hint}"
        response = self._http.request(
            "POST",
            f"{self._url}/embeddings",
            body={"model": self._settings.model, "input": clean},
            hint_404=hint,
        )
        try:
            return read_vectors(response, expected=len(texts))
        except UnusableResponse as error:
            raise self._unusable(error) from None

    def _unusable(self, error: UnusableResponse) -> ReferenceFailed:
        return self._http.failure(
            "the reference endpoint's response contains no usable vectors",
            f"{self._url}/embeddings",
            actual=error.actual,
            expected=error.expected,
        )


def read_vectors(response: object, *, expected: int) -> NDArray[np.float32]:
    """Return the vectors of a response in the order of `index`, shape (expected, d).

    Raises UnusableResponse for anything but OpenAI's format.
    """
    data = response.get("data") if isinstance(response, dict) else None
    if not isinstance(data, list):
        actual = f"a {type(response).__name__}"
        if isinstance(response, dict):
            actual = f"an object with {', '.join(map(str, response)) or 'nothing'}"
        raise UnusableResponse(actual, 'an object with a list "data"')
    if len(data) != expected:
        raise UnusableResponse(f"{len(data)} rows", f"{expected}, one per text")
    if not all(isinstance(row, dict) and "embedding" in row for row in data):
        raise UnusableResponse('a row without "embedding"', '{"index": …, "embedding": …} per text')
    places = [row.get("index") for row in data]
    # Some servers leave `index` out and keep the order; where it is given, it decides.
    if any(place is not None for place in places):
        if any(type(place) is not int for place in places) or sorted(places) != list(range(len(data))):
            shown = ", ".join(repr(place) for place in places[:5])
            raise UnusableResponse(f"index {shown}", f"each of 0 to {len(data) - 1} once")
        data = sorted(data, key=lambda row: int(row["index"]))
    rows = [_vector(row["embedding"], number) for number, row in enumerate(data)]
    widths = sorted({len(row) for row in rows})
    if len(widths) != 1:
        raise UnusableResponse(f"rows of {' and '.join(map(str, widths))} numbers", "rows of one length")
    return np.stack(rows)


def _vector(value: object, number: int) -> NDArray[np.float32]:
    """Return row `number` as float32 (d,), from a list of numbers or base64 of little-endian float32."""
    if isinstance(value, str):
        try:
            row = np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float32)
        except (binascii.Error, ValueError):
            actual = f"a text in row {number} that is not base64 of 4-byte floats"
            raise UnusableResponse(actual, "numbers, or base64 of float32") from None
    elif not isinstance(value, list):
        raise UnusableResponse(f"a {type(value).__name__} as embedding in row {number}", "a list of numbers")
    elif value and isinstance(value[0], list):
        raise UnusableResponse(
            f"{len(value)} vectors in row {number}, one per token",
            "one vector per text: the server must pool (llama-server: --pooling mean)",
        )
    else:
        # Not left to numpy, which would convert True and "1" without an error.
        place = next((place for place, one in enumerate(value) if type(one) not in (int, float)), None)
        if place is not None:
            kind = "null" if value[place] is None else type(value[place]).__name__
            note = " (servers write NaN as null)" if value[place] is None else ""
            raise UnusableResponse(f"{kind} at position {place} of row {number}{note}", "finite numbers")
        try:
            with np.errstate(over="ignore"):
                row = np.asarray(value, dtype=np.float64).astype(np.float32)
        except OverflowError:
            actual = f"a number in row {number} beyond the range of floats"
            raise UnusableResponse(actual, "finite numbers") from None
    if row.size == 0:
        raise UnusableResponse(f"no numbers in row {number}", "a vector")
    wrong = np.flatnonzero(~np.isfinite(row))
    if wrong.size:
        raise UnusableResponse(f"{row[wrong[0]]} at position {wrong[0]} of row {number}", "finite numbers")
    return row
