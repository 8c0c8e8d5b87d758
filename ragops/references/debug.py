"""A debug endpoint like the runbook's: the backend's own distances of a query to the stored rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx

from ragops.playbook.model import DebugReference
from ragops.references.http import PATIENCE, Credential, Endpoint, HttpClient, UnusableResponse
from ragops.retry import Backoff

SETTING = "reference.debug.token_env"
# The documented response has 500 bytes; a few megabytes leave room for endpoints that add the rows.
MAX_BYTES = 4 * 1024 * 1024
CAUSES = (
    "a stored zero vector makes the distance NaN, which JSON writers turn into null; or no row was compared; "
    "or the stored vectors have another dimension than the query's"
)
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class DebugAnswer:
    """What the backend measured: cosine distances; None if the backend has no number, see `problem`."""

    query: str
    dimensions: int | None
    """Of the backend's own embedding of the query."""
    distance_min: float | None
    distance_max: float | None
    distance_avg: float | None
    problem: str | None = None
    """Why a figure is missing; None if all are there."""


class DebugEndpoint(Endpoint):
    """Requests distances; `token` is the bearer token itself, which no message repeats."""

    def __init__(
        self,
        settings: DebugReference,
        *,
        token: str | None,
        backoff: Backoff = PATIENCE,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Raises ReferenceFailed for a token that no header can carry."""
        super().__init__(
            HttpClient(
                Credential(token, SETTING, settings.token_env),
                timeout_s=settings.timeout_s,
                allow_plaintext=settings.allow_plaintext,
                max_bytes=MAX_BYTES,
                backoff=backoff,
                transport=transport,
            )
        )
        self._settings = settings

    def ask(self, query: str | None = None) -> DebugAnswer:
        """Return the distances of a query (None: the playbook's) to the stored rows. Raises ReferenceFailed."""
        query = self._settings.query if query is None else query
        # Not str.format: a URL may contain other braces.
        url = self._settings.url.replace("{query}", quote(query, safe="", errors="replace"))
        hint = "check reference.debug.url: the endpoint's own address, with {query} in place of the query"
        response = self._http.request("GET", url, hint_404=hint)
        if not isinstance(response, dict):
            raise self._http.failure(
                "the debug endpoint's response is not a JSON object",
                url,
                actual=f"a {type(response).__name__}",
                expected="an object",
            )
        if response.get("success") is False:
            keys = ("error", "message", "what")
            message = next((str(response[key]) for key in keys if response.get(key)), "success: false")
            raise self._http.failure(
                "the debug endpoint reported a failure", url, actual=message, hint="check the backend's log"
            )
        try:
            return self._read(query, response)
        except UnusableResponse as error:
            raise self._http.failure(
                "the debug endpoint's response does not match reference.debug.paths",
                url,
                actual=error.actual,
                expected=error.expected,
                hint="set the paths of the figures in reference.debug.paths",
            ) from None

    def _read(self, query: str, response: dict[str, Any]) -> DebugAnswer:
        """Return the figures from where the playbook locates them. Raises UnusableResponse."""
        paths = self._settings.paths
        dimensions = value_at(response, paths.dimensions)
        if dimensions is _MISSING:
            raise _missing(response, paths.dimensions)
        if dimensions is not None:
            # JavaScript backends write 768 as 768.0. NaN, which Python's JSON parser accepts, fails `>= 1`.
            is_number = isinstance(dimensions, int | float) and not isinstance(dimensions, bool)
            if not (is_number and dimensions >= 1 and dimensions % 1 == 0):
                raise UnusableResponse(f"{paths.dimensions} is {dimensions!r:.60}", "a whole number")
            dimensions = int(dimensions)
        places = {name: str(getattr(paths, name)) for name in ("distance_min", "distance_max", "distance_avg")}
        distances = {name: _distance(response, place) for name, place in places.items()}
        problems = [] if dimensions is not None else [f"{paths.dimensions} is null: the backend made no embedding"]
        missing = [place for name, place in places.items() if distances[name] is None]
        if missing:
            siblings = _siblings(response, missing[0])
            totals = [value for key, value in siblings.items() if key.startswith("total")]
            cause = siblings.get("cause")  # written by ragops' own probe
            if not isinstance(cause, str) or not cause:
                has_no_rows = bool(totals) and all(type(total) is int and total == 0 for total in totals)
                cause = "the backend compared the query with 0 rows" if has_no_rows else CAUSES
            problems.append(f"{', '.join(missing)}: not a number ({cause})")
        return DebugAnswer(query, dimensions, **distances, problem="; ".join(problems) or None)


def value_at(response: Any, path: str) -> Any:
    """Return the value at keys joined by dots; a key may contain dots itself. `_MISSING` if there is none."""
    if not path:
        return response
    keys = path.split(".")
    if isinstance(response, list) and keys[0].isdecimal() and int(keys[0]) < len(response):
        return value_at(response[int(keys[0])], ".".join(keys[1:]))
    for length in range(len(keys), 0, -1):
        key = ".".join(keys[:length])
        if isinstance(response, dict) and key in response:
            return value_at(response[key], ".".join(keys[length:]))
    return _MISSING


def _distance(response: dict[str, Any], path: str) -> float | None:
    """Return the distance; None for null, NaN, or if the response itself gives the reason."""
    value = value_at(response, path)
    if value is _MISSING:
        cause = _siblings(response, path).get("cause")
        if isinstance(cause, str) and cause:
            return None
        raise _missing(response, path)
    # JSON has no NaN; some writers emit it bare (Python), as a string, or as null.
    if value is None or (isinstance(value, str) and value.strip().lower() in ("nan", "null", "inf", "infinity")):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnusableResponse(f"{path} is {value!r:.60}", "a number or null")
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        raise UnusableResponse(f"{path} is {value!r:.60}", "a distance") from None


def _siblings(response: dict[str, Any], path: str) -> Mapping[str, Any]:
    """Return the object that contains the last key of a path, or should; {} if there is none."""
    parent = value_at(response, path.rpartition(".")[0])
    return parent if isinstance(parent, dict) else {}


def _missing(response: dict[str, Any], path: str) -> UnusableResponse:
    siblings = _siblings(response, path) or response
    keys = ", ".join(str(key) for key in list(siblings)[:12]) or "nothing"
    return UnusableResponse(f"no {path}; there is: {keys}", path)
