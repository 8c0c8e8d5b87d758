"""The key `source.encoding`: one label of an encoding for all texts, or labels by patterns of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from ragops.charsets import canonical
from ragops.playbook.problems import Inconsistent, Place

_PLACE: Place = ("source", "encoding")
_EXAMPLES = "such as windows-1252, shift_jis or utf-16le"


def _checked(value: object) -> object:
    """Return one label, or pairs of a pattern and its label. Raises Inconsistent with each place that is wrong."""
    if value is None:
        return None
    if isinstance(value, str):
        if (wrong := _refused_label(value)) is not None:
            raise Inconsistent([(_PLACE, wrong)])
        return value
    pairs = _pairs(value)
    if pairs is None:
        message = f"found {value!r}; expected a label {_EXAMPLES}, or a mapping of patterns to labels"
        raise Inconsistent([(_PLACE, message)])
    problems: list[tuple[Place, str]] = []
    for pattern, label in pairs:
        place = (*_PLACE, str(pattern))
        problems += [(place, wrong) for wrong in (_refused_pattern(pattern), _refused_label(label)) if wrong]
    if problems:
        raise Inconsistent(problems)
    return tuple(pairs)


def _pairs(value: object) -> list[tuple[object, object]] | None:
    """Return the entries in their order: of a mapping in YAML, of a list of pairs in the ledger."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, Sequence) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        return [(pair[0], pair[1]) for pair in value]
    return None


def _refused_label(label: object) -> str | None:
    if isinstance(label, str) and canonical(label) is not None:
        return None
    return f"{label!r} is no encoding that ragops reads; expected a label {_EXAMPLES}"


def _refused_pattern(pattern: object) -> str | None:
    expected = "expected one such as *.txt or docs/**/*.csv"
    if not isinstance(pattern, str) or not pattern.strip("/ "):
        return f"the pattern {pattern!r} names nothing; {expected}"
    if pattern.startswith("/") or ".." in pattern.split("/"):
        return f"the pattern {pattern!r} is not relative to the source's folder; {expected}"
    return None


# Pairs and not a mapping: the first pattern that matches decides, and the ledger's JSON loses the order of keys.
SourceEncoding = Annotated[
    str | tuple[tuple[str, str], ...] | None,
    BeforeValidator(_checked),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "additionalProperties": {"type": "string"}},
                {"type": "null"},
            ]
        }
    ),
]
