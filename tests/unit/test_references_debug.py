"""A debug endpoint's figures, from wherever the playbook says they are; what is missing is explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ragops.errors import ReferenceFailed
from ragops.playbook.model import DebugPaths, DebugReference
from ragops.references.debug import CAUSES, DebugEndpoint
from ragops.retry import Backoff

URL = "https://backend/api/v3/debug/compare-rag-embedding?query={query}"
# As the procedure documents it.
DOCUMENTED: dict[str, Any] = {
    "success": True,
    "query": "test urbanisme",
    "backend_embedding_dims": 768,
    "processing_time_ms": 4361,
    "comparison_stats": {
        "total_docs_urbanisme": 2025,
        "distance_min": 0.6558754967188687,
        "distance_max": 1.0043308467239571,
        "distance_avg": 0.8546756634534263,
        "count_threshold_0.3": 0,
        "count_threshold_0.5": 0,
        "count_threshold_0.7": 29,
        "count_threshold_0.9": 1611,
    },
}
NAMES = ("distance_min", "distance_max", "distance_avg")


def endpoint(
    answer: object | Callable[[httpx.Request], httpx.Response], *, url: str = URL, **paths: str
) -> DebugEndpoint:
    def respond(request: httpx.Request) -> httpx.Response:
        if callable(answer):
            found: httpx.Response = answer(request)
            return found
        return httpx.Response(200, content=json.dumps(answer))

    settings = DebugReference(url=url, token_env="BACKEND_TOKEN", paths=DebugPaths(**paths))
    return DebugEndpoint(
        settings, token="t-secret", backoff=Backoff(total_s=0.0), transport=httpx.MockTransport(respond)
    )


def changed(**stats: Any) -> dict[str, Any]:
    """The documented answer with other statistics."""
    return {**DOCUMENTED, "comparison_stats": {**DOCUMENTED["comparison_stats"], **stats}}


def refused(answer: object, **paths: str) -> ReferenceFailed:
    with pytest.raises(ReferenceFailed) as caught:
        endpoint(answer, **paths).ask()
    assert caught.value.where == "https://backend/api/v3/debug/compare-rag-embedding"
    return caught.value


def test_the_documented_answer() -> None:
    with endpoint(DOCUMENTED) as asking:
        found = asking.ask()
    assert (found.query, found.dimensions, found.problem) == ("test urbanisme", 768, None)
    assert (found.distance_min, found.distance_max, found.distance_avg) == (
        0.6558754967188687,
        1.0043308467239571,
        0.8546756634534263,
    )


def test_the_query_is_percent_encoded_and_the_token_sent() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=DOCUMENTED)

    query = "toit & école? 100% #1 {query}+/\ud800"
    found = endpoint(answer, url=URL + "&lang={fr}").ask(query)
    assert found.query == query
    assert seen[0].url.params["query"] == "toit & école? 100% #1 {query}+/?"
    assert seen[0].url.params["lang"] == "{fr}"
    assert seen[0].url.raw_path.startswith(b"/api/v3/debug/compare-rag-embedding?query=toit%20%26%20%C3%A9cole")
    assert seen[0].headers["Authorization"] == "Bearer t-secret"


def test_figures_in_other_places() -> None:
    answer = {"a": [{"dims.n": 3.0}], "s": {"lo": 0, "hi": 1, "mean": 0.5}}
    places = {"distance_min": "s.lo", "distance_max": "s.hi", "distance_avg": "s.mean"}
    found = endpoint(answer, dimensions="a.0.dims.n", **places).ask()
    assert (found.dimensions, found.distance_min, found.distance_max, found.distance_avg) == (3, 0.0, 1.0, 0.5)
    assert found.problem is None


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "NaN", "null"])
def test_a_distance_that_is_no_number_is_explained(value: object) -> None:
    found = endpoint(changed(distance_min=value, distance_avg=value)).ask()
    assert (found.distance_min, found.distance_max, found.distance_avg) == (None, 1.0043308467239571, None)
    stats = "comparison_stats.distance_min, comparison_stats.distance_avg"
    assert found.problem == f"{stats}: not a number ({CAUSES})"
    assert "zero vector" in CAUSES and "no row" in CAUSES and "dimension" in CAUSES


def test_no_rows_are_the_cause_when_the_backend_counted_none() -> None:
    found = endpoint(changed(total_docs_urbanisme=0, **dict.fromkeys(NAMES))).ask()
    assert found.problem is not None
    assert "the backend compared the query with 0 rows" in found.problem


def test_a_cause_that_the_answer_names_is_passed_on() -> None:
    stats = {"total_docs": 3, "distance_not_a_number": 3, "cause": "3 stored zero vectors"}
    found = endpoint({**DOCUMENTED, "comparison_stats": stats}).ask()
    assert (found.distance_min, found.distance_max, found.distance_avg) == (None, None, None)
    assert found.problem is not None
    assert found.problem.endswith("not a number (3 stored zero vectors)")


def test_a_backend_that_made_no_embedding() -> None:
    found = endpoint({**DOCUMENTED, "backend_embedding_dims": None}).ask()
    assert found.dimensions is None
    assert found.problem == "backend_embedding_dims is null: the backend made no embedding"


@pytest.mark.parametrize("value", [True, "768", 76.5, 0, -1, float("nan"), float("inf"), [], {}])
def test_dimensions_that_are_no_number(value: object) -> None:
    error = refused({**DOCUMENTED, "backend_embedding_dims": value})
    assert error.actual is not None and error.actual.startswith("backend_embedding_dims is ")
    assert error.expected == "a whole number"


@pytest.mark.parametrize("value", [True, "near", [], {}, 10**400])
def test_a_distance_of_another_kind(value: object) -> None:
    error = refused(changed(distance_max=value))
    assert error.actual is not None and error.actual.startswith("comparison_stats.distance_max is ")
    assert error.hint == "set the paths of the figures in reference.debug.paths"


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ({"distance_min": "comparison_stats.min"}, "no comparison_stats.min; there is: total_docs_urbanisme, "),
        ({"distance_min": "stats.distance_min"}, "no stats.distance_min; there is: success, query, "),
        ({"dimensions": "query.length"}, "no query.length; there is: success, query, "),
        ({"dimensions": "comparison_stats.0"}, "no comparison_stats.0; there is: total_docs_urbanisme, "),
    ],
)
def test_a_path_that_leads_nowhere_shows_what_is_there(paths: dict[str, str], found: str) -> None:
    error = refused(DOCUMENTED, **paths)
    assert error.actual is not None
    assert error.actual.startswith(found)
    assert error.expected in paths.values()


@pytest.mark.parametrize(("answer", "found"), [([], "a list"), ("ok", "a str"), (None, "a NoneType")])
def test_an_answer_that_is_no_object(answer: object, found: str) -> None:
    assert refused(answer).actual == found


@pytest.mark.parametrize("key", ["error", "message", "what"])
def test_a_failure_that_the_endpoint_reports(key: str) -> None:
    error = refused({"success": False, key: "model not loaded t-secret"})
    assert (error.what, error.actual) == ("the debug endpoint reported a failure", "model not loaded ***")


def test_faults_of_the_connection_are_those_of_every_reference() -> None:
    error = refused(lambda _: httpx.Response(401, json={"detail": "who are you"}))
    assert error.what == "the reference endpoint denied access"
    assert error.hint is not None and "BACKEND_TOKEN (reference.debug.token_env)" in error.hint
    assert refused(lambda _: httpx.Response(404)).hint is not None
    assert (
        refused(lambda _: httpx.Response(200, content=b"<html>")).what
        == "the reference endpoint's response is not JSON"
    )
    assert "too large" in refused(lambda _: httpx.Response(200, content=b" " * 5_000_000)).what
