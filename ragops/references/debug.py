"""A debug endpoint like the procedure's: the backend's own distances of a query to the stored rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from ragops.playbook.model import DebugReference
from ragops.references.http import PATIENCE, Credential, HttpClient
from ragops.retry import Backoff

SETTING = "reference.debug.token_env"
MAX_BYTES = 4 * 1024 * 1024
CAUSES = (
    "a stored zero vector makes the distance NaN, which JSON writers turn into null; or no row was compared; "
    "or the stored vectors have another dimension than the query's"
)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class DebugAnswer:
    """What the backend measured. Distances are cosine distances; None: not a number there, see `problem`."""

    query: str
    dimensions: int | None
    """Of the backend's own embedding of the query."""
    distance_min: float | None
    distance_max: float | None
    distance_avg: float | None
    raw: dict[str, Any]
    """The whole answer."""
    problem: str | None = None
    """Why a figure is missing; None when all are there."""


class DebugEndpoint:
    """Asks a debug endpoint; `token` is the bearer token itself, which no message repeats."""

    def __init__(
        self,
        settings: DebugReference,
        *,
        token: str | None,
        backoff: Backoff = PATIENCE,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ReferenceError for a token that no header can carry."""
        self._settings = settings
        self._http = HttpClient(
            Credential(token, SETTING, settings.token_env),
            timeout_s=settings.timeout_s,
            max_bytes=MAX_BYTES,
            backoff=backoff,
            transport=transport,
            sleep=sleep,
        )

    def ask(self, query: str | None = None) -> DebugAnswer:
        """Compare a query (None: the playbook's) with the stored rows. Raises ReferenceError."""
        asked = self._settings.query if query is None else query
        url = self._settings.url.replace("{query}", quote(asked, safe="", errors="replace"))
        hint = "check reference.debug.url; it names the endpoint itself, with {query} where the query goes"
        raw = self._http.ask("GET", url, hint_404=hint)
        if not isinstance(raw, dict):
            found = f"a {type(raw).__name__}"
            raise self._http.fault(
                "the debug endpoint's answer is no object", url, actual=found, expected="an object"
            )
        if raw.get("success") is False:
            said = str(raw.get("error") or raw.get("message") or raw.get("what") or "success: false")
            raise self._http.fault(
                "the debug endpoint reports a failure", url, actual=said, hint="its log says more"
            )
        try:
            return self._answer(asked, raw)
        except _Unreadable as error:
            raise self._http.fault(
                "the debug endpoint's answer is not as the playbook describes it",
                url,
                actual=error.actual,
                expected=error.expected,
                hint="set the places of the figures in reference.debug.paths",
            ) from None

    def close(self) -> None:
        """Close the connections; the endpoint cannot be asked afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, query: str, raw: dict[str, Any]) -> DebugAnswer:
        paths = self._settings.paths
        dimensions = _dimensions(raw, paths.dimensions)
        names = ("distance_min", "distance_max", "distance_avg")
        places = {name: str(getattr(paths, name)) for name in names}
        distances = {name: _distance(raw, place) for name, place in places.items()}
        problems = [] if dimensions is not None else [f"{paths.dimensions} is null: the backend made no embedding"]
        missing = [places[name] for name in names if distances[name] is None]
        if missing:
            problems.append(f"{', '.join(missing)}: not a number ({_cause(raw, missing[0])})")
        problem = "; ".join(problems) or None
        return DebugAnswer(query, dimensions, **distances, raw=raw, problem=problem)


class _Unreadable(ValueError):
    def __init__(self, actual: str, expected: str) -> None:
        super().__init__(actual)
        self.actual = actual
        self.expected = expected


def value_at(raw: Any, path: str) -> Any:
    """The value at keys joined by dots; a key may hold dots itself. `_MISSING` where there is none."""
    if not path:
        return raw
    keys = path.split(".")
    if isinstance(raw, list) and keys[0].isdecimal() and int(keys[0]) < len(raw):
        return value_at(raw[int(keys[0])], ".".join(keys[1:]))
    for length in range(len(keys), 0, -1):
        key = ".".join(keys[:length])
        if isinstance(raw, dict) and key in raw:
            return value_at(raw[key], ".".join(keys[length:]))
    return _MISSING


def _dimensions(raw: dict[str, Any], path: str) -> int | None:
    value = value_at(raw, path)
    if value is _MISSING:
        raise _missing(raw, path)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value % 1 or value < 1:
        raise _Unreadable(f"{path} is {_shown(value)}", "a whole number")
    return int(value)


def _distance(raw: dict[str, Any], path: str) -> float | None:
    """The distance; None for null, NaN, or where the answer itself says why there is none."""
    value = value_at(raw, path)
    if value is _MISSING:
        if _own_cause(raw, path):
            return None
        raise _missing(raw, path)
    if value is None or (isinstance(value, str) and value.strip().lower() in ("nan", "null", "inf", "infinity")):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unreadable(f"{path} is {_shown(value)}", "a number or null")
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        raise _Unreadable(f"{path} is {_shown(value)}", "a distance") from None


def _siblings(raw: dict[str, Any], path: str) -> Mapping[str, Any]:
    """The object that holds the last key of a path, or would."""
    found = value_at(raw, path.rpartition(".")[0])
    return found if isinstance(found, dict) else {}


def _own_cause(raw: dict[str, Any], path: str) -> str | None:
    """What the answer itself says about a missing distance, as ragops' own probe does."""
    found = _siblings(raw, path).get("cause")
    return found if isinstance(found, str) and found else None


def _cause(raw: dict[str, Any], path: str) -> str:
    own = _own_cause(raw, path)
    if own:
        return own
    totals = [value for key, value in _siblings(raw, path).items() if key.startswith("total")]
    if totals and all(type(total) is int and total == 0 for total in totals):
        return "the backend compared the query with 0 rows"
    return CAUSES


def _missing(raw: dict[str, Any], path: str) -> _Unreadable:
    siblings = _siblings(raw, path) or raw
    keys = ", ".join(str(key) for key in list(siblings)[:12]) or "nothing"
    return _Unreadable(f"no {path}; there is: {keys}", path)


def _shown(value: Any) -> str:
    return f"{value!r:.60}"
