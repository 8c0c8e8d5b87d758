"""Read relevance judgments: queries with the keys of their relevant rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ragops.errors import UsageError

EXPECTED = (
    'TSV of query, key and relevance (1 if absent), or JSON Lines of {"query": …, "key": …, "relevance": …}; '
    'the key of several columns is a JSON array: ["7", "2026-01-01"]'
)
# Wrong lines that one message names.
NAMED = 5


@dataclass(frozen=True, slots=True)
class Judged:
    """A query with the relevance of rows, by their keys as ragops writes them: `["42"]`."""

    query: str
    relevance: dict[str, float]


def read_judgments(file: Path) -> tuple[Judged, ...]:
    """Return the judged queries in the file's order. Raises UsageError that names every wrong line."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the judgments cannot be read",
            where=str(file),
            actual=str(error),
            expected="a file in UTF-8: " + EXPECTED,
            hint="correct compare.judgments in the playbook, or leave it empty",
        ) from error
    found: dict[str, dict[str, float]] = {}
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            query, key, relevance = _parse(line)
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
            continue
        found.setdefault(query, {})[key] = relevance
    if not found and not wrong:
        wrong.append("no line")
    if wrong:
        more = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
        raise UsageError(
            "the judgments are wrong",
            where=str(file),
            actual="\n".join([*wrong[:NAMED], *more]),
            expected=EXPECTED,
            hint="correct the file",
        )
    return tuple(Judged(query, relevance) for query, relevance in found.items())


def key_text(values: object) -> str:
    """Return a key as ragops writes it, from a plain value or the list of its columns' values.

    Raises ValueError for anything else.
    """
    listed = values if isinstance(values, list) else [values]
    if not listed or any(isinstance(value, bool) or not isinstance(value, str | int) for value in listed):
        raise ValueError(f"{values!r} is no key: a text, a number, or a list of them")
    return json.dumps([str(value) for value in listed], ensure_ascii=False)


def _parse(line: str) -> tuple[str, str, float]:
    query, key, relevance = _from_json(line) if line.lstrip().startswith("{") else _from_tsv(line)
    if not query.strip():
        raise ValueError("the query is empty")
    if not math.isfinite(relevance) or relevance < 0:
        raise ValueError(f"the relevance {relevance:g} is not a number from 0 on")
    return query, key_text(key), relevance


def _from_json(line: str) -> tuple[str, object, float]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    unknown = sorted(set(value) - {"query", "key", "relevance"})
    if unknown or not isinstance(value.get("query"), str) or "key" not in value:
        raise ValueError(f"unknown: {', '.join(unknown)}" if unknown else "query (a text) and key are needed")
    relevance = value.get("relevance", 1)
    if isinstance(relevance, bool) or not isinstance(relevance, int | float):
        raise ValueError(f"the relevance {relevance!r} is no number")
    return value["query"], value["key"], float(relevance)


def _from_tsv(line: str) -> tuple[str, object, float]:
    query, *rest = line.rstrip("\r\n").split("\t")
    if len(rest) not in (1, 2):
        raise ValueError(f"{len(rest) + 1} columns, separated by tabs")
    key: object = rest[0].strip()
    if rest[0].lstrip().startswith("["):
        try:
            key = json.loads(rest[0])
        except ValueError:
            raise ValueError(f"the key {rest[0]} is no JSON array") from None
    try:
        return query, key, float(rest[1]) if len(rest) == 2 and rest[1].strip() else 1.0
    except ValueError:
        raise ValueError(f"the relevance {rest[1]!r} is no number") from None


def judged_keys(judged: tuple[Judged, ...]) -> Iterator[str]:
    """Yield the keys of all judged rows."""
    for one in judged:
        yield from one.relevance
