"""The procedure's endpoint as ragops provides it, on a real database with real llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from campaigns import execute, make_playbook, value
from probe_factory import QUERY, TEXTS, ZERO, fill, get, store
from starlette.applications import Starlette
from starlette.routing import Mount

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.errors import RagopsError
from ragops.playbook.model import DebugReference
from ragops.postgres.connection import Target
from ragops.probe import create_probe_app
from ragops.probe.app import COMPARE_PATH, MAX_QUERY_CHARACTERS
from ragops.quality.drift import cosine_distances
from ragops.references.debug import DebugEndpoint


@pytest.fixture(scope="module")
def embedder(tiny_model: Path) -> Iterator[Embedder]:
    with Embedder(EmbedderConfig(tiny_model)) as running:
        yield running


@pytest.fixture
def stored(dsn18: str, embedder: Embedder) -> str:
    """A database with five documents."""
    return fill(dsn18, embedder)


@pytest.fixture
def make_app(tiny_model: Path) -> Iterator[Callable[..., Starlette]]:
    """Makes apps; their embedders end with the test."""
    made: list[Starlette] = []

    def make(dsn: str, **options: Any) -> Starlette:
        app = create_probe_app(
            target=Target(dsn, "the test database"), playbook=make_playbook(model=tiny_model), **options
        )
        made.append(app)
        return app

    yield make
    for app in made:
        app.state.probe.close()


def test_the_shape_and_the_figures_of_the_procedure(
    stored: str, make_app: Callable[..., Starlette], embedder: Embedder
) -> None:
    answer = get(make_app(stored), query=QUERY)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found = answer.json()
    counts = [f"count_threshold_{limit}" for limit in ("0.3", "0.5", "0.7", "0.9")]
    assert list(found) == [
        "success",
        "query",
        "backend_embedding_dims",
        "processing_time_ms",
        "comparison_stats",
    ]
    stats = found["comparison_stats"]
    assert list(stats) == ["total_docs", "distance_min", "distance_max", "distance_avg", *counts]
    assert (found["success"], found["query"], found["backend_embedding_dims"]) == (True, QUERY, 32)
    assert isinstance(found["processing_time_ms"], int)
    own = embedder.embed([QUERY]).vectors.repeat(len(TEXTS), axis=0)
    distances = cosine_distances(own, embedder.embed(TEXTS).vectors)
    measured = [stats[name] for name in ("distance_min", "distance_max", "distance_avg")]
    assert np.allclose(measured, [distances.min(), distances.max(), distances.mean()], atol=1e-5)
    limits = (0.3, 0.5, 0.7, 0.9)
    assert [stats[name] for name in counts] == [int((distances < limit).sum()) for limit in limits]
    assert stats["total_docs"] == len(TEXTS)


def test_the_debug_reference_reads_it(stored: str, make_app: Callable[..., Starlette]) -> None:
    store(stored, 6, "zero", ZERO)
    app = make_app(stored)

    def pass_on(request: httpx.Request) -> httpx.Response:
        found = get(app, request.url.path, query=request.url.params["query"])
        return httpx.Response(found.status_code, content=found.content)

    settings = DebugReference(url="http://probe" + COMPARE_PATH + "?query={query}", query=QUERY)
    with DebugEndpoint(settings, token=None, transport=httpx.MockTransport(pass_on)) as endpoint:
        one_zero = endpoint.ask()
        execute(stored, f"UPDATE documents SET embedding = '{ZERO}'")
        only_zeros = endpoint.ask()
        execute(stored, "DELETE FROM documents")
        nothing = endpoint.ask()
    assert (one_zero.dimensions, one_zero.problem) == (32, None)
    assert one_zero.distance_min is not None and 0 < one_zero.distance_min < 1
    assert only_zeros.distance_min is only_zeros.distance_max is only_zeros.distance_avg is None
    assert only_zeros.problem is not None and "6 stored zero vectors" in only_zeros.problem
    assert nothing.problem is not None and "no row is stored" in nothing.problem


def test_a_distance_that_is_no_number_comes_with_its_cause(
    stored: str, make_app: Callable[..., Starlette]
) -> None:
    store(stored, 6, "zero", ZERO)
    store(stored, 7, "none", None)
    store(stored, 8, "none", None)
    answer = get(make_app(stored), query=QUERY)
    stats = answer.json()["comparison_stats"]
    figures = [stats[name] for name in ("total_docs", "distance_not_a_number", "docs_without_embedding")]
    assert figures == [8, 1, 2]
    assert stats["cause"] == (
        "1 stored zero vector (the cosine distance to a zero vector is not a number), 2 rows without an embedding"
    )
    assert 0 < stats["distance_min"] < stats["distance_avg"] < stats["distance_max"]
    assert "null" not in answer.text


def test_vectors_of_another_dimension_are_named(stored: str, make_app: Callable[..., Starlette]) -> None:
    execute(
        stored, "UPDATE documents SET embedding = NULL", "ALTER TABLE documents ALTER embedding TYPE vector(3)"
    )
    execute(stored, "UPDATE documents SET embedding = '[1,2,3]'")
    answer = get(make_app(stored), query=QUERY)
    assert answer.status_code == 503
    assert answer.json()["found"] == "stored: 3 dimensions; the model's: 32"


def test_it_can_only_read(stored: str, make_app: Callable[..., Starlette]) -> None:
    execute(
        stored,
        "ALTER TABLE documents RENAME TO real_documents",
        "CREATE TABLE seen (n int)",
        "CREATE FUNCTION spy(v vector) RETURNS vector LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO seen VALUES (1); RETURN v; END $$",
        "CREATE VIEW documents AS SELECT id, content, spy(embedding) AS embedding FROM real_documents",
    )
    answer = get(make_app(stored), query=QUERY)
    assert answer.status_code == 503
    assert "read-only transaction" in answer.json()["found"]
    assert value(stored, "SELECT count(*) FROM seen") == 0
    # The trap works: whoever may write, writes.
    execute(stored, "SELECT embedding FROM documents")
    assert value(stored, "SELECT count(*) FROM seen") == len(TEXTS)


@pytest.mark.parametrize(
    ("query", "status", "what"),
    [
        ("", 400, "the query is missing"),
        (" \t", 400, "the query is missing"),
        ("x" * (MAX_QUERY_CHARACTERS + 1), 413, "the query is too long"),
        ("water " * 200, 413, "too long"),  # for the model
    ],
)
def test_queries_that_are_refused(
    stored: str, make_app: Callable[..., Starlette], query: str, status: int, what: str
) -> None:
    answer = get(make_app(stored), query=query)
    assert (answer.status_code, answer.json()["success"]) == (status, False)
    assert what in answer.json()["what"]


def test_the_fingerprint_is_what_was_given(stored: str, make_app: Callable[..., Starlette]) -> None:
    document = {"identity": {"build": "x"}, "canary": [0.5, float("nan")]}
    shown = {"identity": {"build": "x"}, "canary": [0.5, None]}
    assert get(make_app(stored, fingerprint=document), "/fingerprint").json() == shown
    assert get(make_app(stored, fingerprint=lambda: document), "/fingerprint").json() == shown
    none = get(make_app(stored), "/fingerprint")
    assert (none.status_code, none.json()["what"]) == (404, "this probe has no fingerprint")

    def fail() -> dict[str, Any]:
        raise RagopsError("no canary", where="/secret/folder", actual="nothing")

    failed = get(make_app(stored, fingerprint=fail), "/fingerprint")
    assert failed.status_code == 503
    assert failed.json() == {"success": False, "what": "no canary", "found": "nothing"}


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer ", "Basic tökén", "bearer tökén", "Bearer tökén2", "tökén"]
)
@pytest.mark.parametrize("path", [COMPARE_PATH, "/fingerprint", "/nothing"])
def test_without_the_token_nothing_is_told(
    stored: str, make_app: Callable[..., Starlette], path: str, header: str | None
) -> None:
    app = make_app(stored, token="tökén", fingerprint={"a": 1})
    answer = get(app, path, headers={"Authorization": header.encode()} if header else None, query=QUERY)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "tökén" not in answer.text
    good = {"Authorization": "Bearer tökén".encode()}
    assert get(app, "/fingerprint", headers=good).json() == {"a": 1}


@pytest.mark.parametrize("token", ["", "  "])
def test_an_empty_token_is_refused(stored: str, make_app: Callable[..., Starlette], token: str) -> None:
    with pytest.raises(RagopsError, match="token is empty"):
        make_app(stored, token=token)


def test_it_can_be_mounted_and_closed(stored: str, make_app: Callable[..., Starlette]) -> None:
    probe = make_app(stored)
    host = Starlette(routes=[Mount("/ragops", app=probe)])
    assert get(host, "/ragops" + COMPARE_PATH, query=QUERY).json()["success"] is True
    probe.state.probe.close()
    closed = get(host, "/ragops" + COMPARE_PATH, query=QUERY)
    assert (closed.status_code, closed.json()["what"]) == (503, "the probe is shutting down")


def test_a_fingerprint_says_nothing_about_this_machine(stored: str, make_app: Callable[..., Starlette]) -> None:
    document = {
        "build": {
            "python": "/home/me/venv/bin/python",
            "package_version": "0.3.16",
            "cmake_args": "-DGGML_AVX=OFF -DX=/home/me/x",
        },
        "model": {"path": "/home/me/models/m.gguf", "sha256": "ab"},
        "host": {"name": "me-laptop", "cpu": "a cpu"},
    }
    for given in (document, lambda: document):
        answer = get(make_app(stored, fingerprint=given), "/fingerprint")
        assert "me" not in answer.text.replace("name", "")
        assert answer.json() == {
            "build": {"python": "", "package_version": "0.3.16", "cmake_args": "-DGGML_AVX=OFF"},
            "model": {"path": "m.gguf", "sha256": "ab"},
            "host": {"name": "", "cpu": "a cpu"},
        }


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8791", 200),
        ("[::1]:8791", 200),
        ("LocalHost", 200),
        ("probe.intern:80", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example:8791", 421),
        ("", 421),
    ],
)
def test_only_known_names_are_answered(
    stored: str, make_app: Callable[..., Starlette], host: str, status: int
) -> None:
    app = make_app(stored, fingerprint={"a": 1}, allowed_hosts=["probe.intern"])
    answer = get(app, "/fingerprint", headers={"Host": host})
    assert answer.status_code == status
    assert get(make_app(stored, fingerprint={"a": 1}), "/fingerprint", headers={"Host": host}).status_code == 200
