"""Convert validation errors into problems that name the key, the line and the value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ragops.errors import Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Keys from the top of a playbook down, e.g. `("steps", 3)`.
Place = tuple[str | int, ...]

_NO_STEP = ("union_tag_not_found", "model_attributes_type", "model_type", "dict_type")
# How pydantic labels the alternatives of `PositiveInt | Auto` in an error's location, e.g.
# `constrained-int`, `literal['cpu_count']`, `function-before[_as_auto(), literal['auto']]`.
_ALTERNATIVE = re.compile(r"constrained-int|.*literal\[.*\]+")
# YAML 1.1 (what PyYAML implements) requires a dot and a signed exponent in a float: `1e5` and `1.5e3`
# are text there, although YAML 1.2 and JSON read both as numbers.
_FLOAT_LIKE = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")
# A value in the shape of a DSN may hold a password, whatever key it was typed under; do not print it.
_SECRET = re.compile(r"://.*@|password", re.IGNORECASE | re.DOTALL)


class Inconsistent(ValueError):
    """Parts of a playbook that contradict each other, each with its place."""

    def __init__(self, problems: Sequence[tuple[Place, str]]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = tuple(problems)


def problems_of(
    error: ValidationError, *, line_of: Callable[[Place], int | None] = lambda place: None
) -> list[Problem]:
    """Return one problem per wrong key; `line_of` finds a key's line in the file, if there is one."""
    errors = error.errors()
    # pydantic drops a wrong item from its sequence and then also reports the sequence as too short.
    # Only the item is worth a line.
    parents = {one["loc"][:end] for one in errors for end in range(len(one["loc"]))}
    problems: list[Problem] = []
    for one in _merge_alternatives([e for e in errors if not (e["type"] == "too_short" and e["loc"] in parents)]):
        cause = one.get("ctx", {}).get("error")
        if isinstance(cause, Inconsistent):
            problems += [Problem(dotted(place), message, line_of(place)) for place, message in cause.problems]
            continue
        place = one["loc"]
        if len(place) > 2 and place[0] == "steps":
            # A discriminated union inserts its tag (the verb) after the index; the file has no such key.
            place = (*place[:2], *place[3:])
        problems.append(Problem(dotted(place), _message(one, place), line_of(place)))
    return problems


def dotted(place: Place) -> str:
    """Return a place as people write it, e.g. `steps[3].until`."""
    text = ""
    for key in place:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _merge_alternatives(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Merge the errors of a key that takes a number or a word: pydantic reports one per alternative."""
    merged: list[ErrorDetails] = []
    for error in errors:
        loc = error["loc"]
        if not loc or not _ALTERNATIVE.fullmatch(str(loc[-1])):
            merged.append(error)
        elif merged and merged[-1]["loc"] == loc[:-1] and error["type"] == "literal_error":
            merged[-1]["msg"] += f", or {error['ctx']['expected']}"
        else:
            merged.append({**error, "loc": loc[:-1]})
    return merged


def _message(error: ErrorDetails, place: Place) -> str:
    """Return what is wrong and, unless it may be secret or is long, the value that was given."""
    if error["type"] == "extra_forbidden":
        return "unknown key"
    if len(place) == 2 and place[0] == "steps" and error["type"] in _NO_STEP:
        return "a step names its verb, e.g. `- step: embed`, and its settings are keys beside it"
    message, value = error["msg"].removeprefix("Value error, "), error["input"]
    if isinstance(value, str) and _FLOAT_LIKE.fullmatch(value):
        return f"{message}; YAML reads {value} as text, write the number without an exponent"
    if isinstance(value, str):
        is_shown = place[:1] != ("database",) and not _SECRET.search(value) and repr(value) not in message
    else:
        is_shown = value is None or isinstance(value, int | float)  # neither a section nor a sequence
    return f"{message} (found {value!r})" if is_shown else message
