"""The key `source.encoding`: one label of an encoding for all texts, or labels by patterns of their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

from ragops.charsets import canonical
from ragops.playbook.problems import Inconsistent, Place

_PLACE: Place = ("source", "encoding")
_EXAMPLES = "such as windows-1252, shift_jis or utf-16le"


def _checked(value: object) -> object:
    """Return the value. Raises Inconsistent with the place of every label and pattern that is wrong."""
    if value is None or isinstance(value, str):
        given: Mapping[object, object] = {} if value is None else {"": value}
    elif isinstance(value, Mapping):
        given = value
    else:
        message = f"a label {_EXAMPLES}, or a mapping of patterns to labels, expected; found {value!r}"
        raise Inconsistent([(_PLACE, message)])
    problems: list[tuple[Place, str]] = []
    for pattern, label in given.items():
        place: Place = _PLACE if isinstance(value, str) else (*_PLACE, str(pattern))
        if not isinstance(label, str) or canonical(label) is None:
            problems.append((place, f"{label!r} is no encoding that ragops reads; a label {_EXAMPLES}, expected"))
        if isinstance(value, Mapping) and (reason := _refusal(pattern)) is not None:
            problems.append((place, f"{reason}; a pattern such as *.txt or docs/**/*.csv expected"))
    if problems:
        raise Inconsistent(problems)
    return value


def _refusal(pattern: object) -> str | None:
    if not isinstance(pattern, str) or not pattern.strip("/ "):
        return "a pattern has to name something"
    if pattern.startswith("/") or ".." in pattern.split("/"):
        return "a pattern is relative to the source's folder"
    return None


SourceEncoding = Annotated[str | dict[str, str] | None, BeforeValidator(_checked)]
