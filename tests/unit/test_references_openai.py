"""Vectors of an OpenAI-compatible endpoint: in the order of the texts, or an error that says what came instead."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from loopback import Loopback, loopback, reply

from ragops.errors import ReferenceFailed
from ragops.playbook.model import OpenAIReference
from ragops.references.http import UnusableResponse
from ragops.references.openai import OpenAIEndpoint, ServerDescription, read_vectors
from ragops.retry import Backoff

Answer = Callable[[list[str]], httpx.Response]


def endpoint(answer: Answer, *, url: str = "https://backend/v1", **options: Any) -> OpenAIEndpoint:
    """An endpoint whose server answers the texts of each request."""

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/embeddings"):
            return answer(json.loads(request.content)["input"])
        return httpx.Response(404, json={"detail": "Not Found"})

    settings = OpenAIReference(url=url, model="solon", api_key_env="BACKEND_KEY")
    return OpenAIEndpoint(
        settings,
        api_key="sk-secret",
        backoff=Backoff(total_s=0.0),
        transport=httpx.MockTransport(respond),
        **options,
    )


def vector_of(text: str) -> list[float]:
    return [float(len(text)), 1.5, -2.0]


def rows_of(texts: list[str]) -> list[dict[str, Any]]:
    return [{"object": "embedding", "index": i, "embedding": vector_of(t)} for i, t in enumerate(texts)]


def good(texts: list[str]) -> httpx.Response:
    return httpx.Response(200, json={"object": "list", "data": rows_of(texts)})


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as running:
        yield running


def test_the_request_and_its_answer(server: Loopback) -> None:
    server.answers = [reply({"data": rows_of(["a", "bb"])[::-1]})]
    settings = OpenAIReference(url=f"{server.url}/v1/", model="solon")
    with OpenAIEndpoint(settings, api_key="sk-secret") as asking:
        vectors = asking.embed(["a", "bb"])
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("POST", "/v1/embeddings")
    assert sent.json == {"model": "solon", "input": ["a", "bb"]}
    assert (sent.headers["Content-Type"], sent.headers["Authorization"]) == (
        "application/json",
        "Bearer sk-secret",
    )
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1.0, 1.5, -2.0], [2.0, 1.5, -2.0]]


def test_batches_keep_the_order() -> None:
    sizes: list[int] = []

    def answer(texts: list[str]) -> httpx.Response:
        sizes.append(len(texts))
        return httpx.Response(200, json={"data": rows_of(texts)[::-1]})

    texts = ["x" * n for n in range(10)]
    assert endpoint(answer, batch=4).embed(texts)[:, 0].tolist() == list(range(10))
    assert sizes == [4, 4, 2]


def test_no_texts_ask_nothing() -> None:
    assert endpoint(lambda _: pytest.fail("asked")).embed([]).shape == (0, 0)


def test_a_lone_surrogate_is_replaced_as_the_embedder_does() -> None:
    seen: list[str] = []

    def answer(texts: list[str]) -> httpx.Response:
        seen.extend(texts)
        return good(texts)

    endpoint(answer).embed(["a\ud800b", "日本"])
    assert seen == ["a?b", "日本"]


def test_a_batch_below_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="batch of 0"):
        endpoint(good, batch=0)


@pytest.mark.parametrize("status", [500, 502, 413, 422, 424])
def test_a_server_that_takes_one_text_a_request(status: int) -> None:
    sizes: list[int] = []

    def answer(texts: list[str]) -> httpx.Response:
        sizes.append(len(texts))
        if len(texts) > 1:
            return httpx.Response(status, json={"error": {"message": "llama_decode returned -1"}})
        return good(texts)

    asking = endpoint(answer, batch=3)
    assert asking.embed(["a", "bb", "ccc", "dddd"])[:, 0].tolist() == [1, 2, 3, 4]
    asking.embed(["e", "f"])
    assert sizes == [3, 1, 1, 1, 1, 1, 1]  # once refused, never tried again


def test_the_text_that_the_server_cannot_embed_is_named() -> None:
    def answer(texts: list[str]) -> httpx.Response:
        return httpx.Response(500, json={"error": "input is too large"}) if "long" in texts else good(texts)

    with pytest.raises(ReferenceFailed) as caught:
        endpoint(answer).embed(["a", "long", "c"])
    assert caught.value.where == "https://backend/v1/embeddings, text 2 of 3"
    assert caught.value.actual == "HTTP 500: input is too large"


@pytest.mark.parametrize("status", [400, 401, 404, 503])
def test_other_refusals_are_not_asked_again_text_by_text(status: int) -> None:
    sizes: list[int] = []

    def answer(texts: list[str]) -> httpx.Response:
        sizes.append(len(texts))
        return httpx.Response(status)

    with pytest.raises(ReferenceFailed) as caught:
        endpoint(answer).embed(["a", "b"])
    assert sizes == [2]
    assert caught.value.where == "https://backend/v1/embeddings, texts 1 to 2 of 2"


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("https://backend:8080", "is /v1 missing in reference.openai.url?"),
        ("https://b/v1", "does the server offer"),
    ],
)
def test_an_unknown_address(url: str, hint: str) -> None:
    with pytest.raises(ReferenceFailed) as caught:
        endpoint(lambda _: httpx.Response(404), url=url).embed(["a"])
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)
    assert "'solon'" in caught.value.hint


def test_base64_is_float32_in_little_endian() -> None:
    raw = base64.b64encode(np.array([1.5, -2.0], dtype="<f4").tobytes()).decode()
    found = read_vectors({"data": [{"index": 0, "embedding": raw}]}, expected=1)
    assert found.tolist() == [[1.5, -2.0]]
    assert found.dtype == np.float32


def test_rows_without_index_keep_their_order() -> None:
    found = read_vectors({"data": [{"embedding": [3]}, {"embedding": [1]}]}, expected=2)
    assert found.tolist() == [[3.0], [1.0]]


def one_row(embedding: object) -> dict[str, Any]:
    return {"data": [{"index": 0, "embedding": embedding}]}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ([], "a list"),
        (None, "a NoneType"),
        ({}, "an object with nothing"),
        ({"embeddings": [[1.0]], "model": "x"}, "an object with embeddings, model"),
        ({"data": None}, "an object with data"),
        ({"data": []}, "0 rows"),
        ({"data": rows_of(["a", "b"])}, "2 rows"),
        ({"data": [[1.0]]}, 'a row without "embedding"'),
        ({"data": [{"index": 0}]}, 'a row without "embedding"'),
        ({"data": [{"index": 1, "embedding": [1.0]}]}, "index 1"),
        ({"data": [{"index": "0", "embedding": [1.0]}]}, "index '0'"),
        ({"data": [{"index": True, "embedding": [1.0]}]}, "index True"),
        (one_row(None), "a NoneType as embedding in row 0"),
        (one_row([]), "no numbers in row 0"),
        (one_row(""), "no numbers in row 0"),
        (one_row([0.5, None]), "null at position 1 of row 0 (servers write NaN as null)"),
        (one_row([0.5, "1"]), "str at position 1 of row 0"),
        (one_row([True]), "bool at position 0 of row 0"),
        (one_row([0.5, float("nan")]), "nan at position 1 of row 0"),
        (one_row([float("-inf")]), "-inf at position 0 of row 0"),
        (one_row([1e39]), "inf at position 0 of row 0"),
        (one_row([10**400]), "a number in row 0 beyond the range of floats"),
        (one_row([[0.1], [0.2]]), "2 vectors in row 0, one per token"),
        (one_row("!!!!"), "a text in row 0 that is not base64 of 4-byte floats"),
        (one_row("AAAA"), "a text in row 0 that is not base64 of 4-byte floats"),
        (one_row("AADAfw=="), "nan at position 0 of row 0"),
    ],
)
def test_an_answer_without_usable_vectors(answer: Any, found: str) -> None:
    with pytest.raises(UnusableResponse) as caught:
        read_vectors(answer, expected=1)
    assert caught.value.actual == found
    assert caught.value.expected


@pytest.mark.parametrize("places", [[0, 0], [1, 2], [0, None]])
def test_an_index_that_assigns_no_text(places: list[int | None]) -> None:
    data = [{"index": place, "embedding": [1.0]} for place in places]
    with pytest.raises(UnusableResponse, match="each of 0 to 1 once"):
        read_vectors({"data": data}, expected=2)


def test_rows_of_different_length() -> None:
    data = [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]
    with pytest.raises(UnusableResponse, match="rows of 1 and 2 numbers"):
        read_vectors({"data": data}, expected=2)


def test_unusable_vectors_are_an_error_about_the_endpoint() -> None:
    nulls = httpx.Response(200, content=b'{"data": [{"index": 0, "embedding": [NaN, 1]}]}')
    with pytest.raises(ReferenceFailed, match="no usable vectors") as caught:
        endpoint(lambda _: nulls).embed(["a"])
    assert caught.value.actual == "nan at position 0 of row 0"
    assert caught.value.where == "https://backend/v1/embeddings, text 1 of 1"


def test_a_length_that_changes_between_requests() -> None:
    def answer(texts: list[str]) -> httpx.Response:
        return httpx.Response(200, json={"data": [{"index": 0, "embedding": [1.0] * len(texts[0])}]})

    with pytest.raises(ReferenceFailed) as caught:
        endpoint(answer, batch=1).embed(["aa", "aaa"])
    assert (caught.value.actual, caught.value.expected) == ("2 numbers, then 3", "rows of one length")


def test_the_server_describes_itself(server: Loopback) -> None:
    meta = {"n_embd": 768, "n_ctx_train": 512}
    server.answers = [reply({"data": [{"id": "solon.gguf", "meta": meta, "permission": []}, "odd"]})]
    settings = OpenAIReference(url=server.url.replace("//", "//u:pass@") + "/v1", model="solon")
    found = OpenAIEndpoint(settings, api_key=None).describe()
    assert found.to_json() == {
        "url": f"{server.url}/v1",
        "model": "solon",
        "models": [{"id": "solon.gguf", "meta": meta}],
    }
    assert server.requests[0].path == "/v1/models"


@pytest.mark.parametrize("content", [{}, [], {"data": {}}, None])
def test_a_server_that_lists_no_models(server: Loopback, content: object) -> None:
    server.answers = [reply(content)]
    found = OpenAIEndpoint(OpenAIReference(url=server.url), api_key=None).describe()
    assert (found.models, found.problem) == (None, "GET /models returned no list")
    assert found.to_json()["problem"] == "GET /models returned no list"


def test_a_server_without_a_list_of_models() -> None:
    found = endpoint(good).describe()
    problem = "the reference endpoint returned 404 (HTTP 404: Not Found)"
    assert found == ServerDescription("https://backend/v1", "solon", None, problem)
