"""YAML → playbook: a strict loader that keeps line numbers and reports every problem at once.

The loader knows mappings, sequences and plain scalars only. Aliases, tags, duplicate keys and
deep nesting are refused while the file is read, before anything is built from it. Environment
variables are put into scalars first and typed after, so `until: ${UNTIL:-1000}` is a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ragops.errors import PlaybookError, Problem, UsageError
from ragops.playbook.model import Inconsistent, Playbook

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_NO_STEP = ("union_tag_not_found", "model_attributes_type", "model_type", "dict_type")
# How pydantic calls the two sides of `PositiveInt | Literal["planned"]` in a location.
_EITHER = re.compile(r"constrained-int|literal\[.*\]")
_FLOAT_LIKE = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")
# What is shaped like a DSN may hold a password and is not repeated.
_SECRET = re.compile(r"://.*@|password", re.IGNORECASE | re.DOTALL)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def shipped_playbooks() -> Path:
    """The folder of the playbooks that come with the package."""
    packaged = Path(str(resources.files("ragops"))) / "playbooks"
    # A source checkout keeps them at its top level; the wheel carries them inside the package.
    return packaged if packaged.is_dir() else packaged.parents[1] / "playbooks"


def find_playbook(name: str) -> Path:
    """The file that `name` means: a path, or the name of a shipped playbook.

    Raises UsageError when there is neither.
    """
    given = Path(name)
    try:
        if given.is_file():
            return given
    except OSError as error:
        raise UsageError("the playbook cannot be read", where=name, actual=str(error)) from error
    folder = shipped_playbooks()
    if given.name == name:
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    shipped = ", ".join(sorted(path.name for path in folder.glob("*.yaml")))
    raise UsageError(
        "unknown playbook",
        where=name,
        actual="no such file" + ("" if given.name != name else ", and no shipped playbook of that name"),
        expected=f"a YAML file, or one of: {shipped}",
        hint="ragops playbook list",
    )


def load_playbook(name: str, *, environment: Mapping[str, str]) -> Playbook:
    """Read and validate the playbook that `name` means.

    Raises UsageError when it cannot be read, PlaybookError with all problems when it is wrong.
    """
    path = find_playbook(name)
    try:
        if path.stat().st_size > MAX_BYTES:
            size = f"{path.stat().st_size:,} bytes"
            raise UsageError("the playbook is too large", where=str(path), actual=size, expected="at most 1 MiB")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError("the playbook cannot be read", where=str(path), actual=str(error)) from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not valid UTF-8: byte 0x{data[error.start]:02x}"
        raise PlaybookError(str(path), [Problem("", message, line)]) from error
    return parse_playbook(text, file=str(path), environment=environment)


def parse_playbook(text: str, *, file: str, environment: Mapping[str, str]) -> Playbook:
    """Validate a playbook's text. Raises PlaybookError with all problems."""
    reader = _Reader(environment)
    try:
        data = reader.read(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise PlaybookError(file, [Problem("", f"not valid YAML: {error.problem}", line)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        raise PlaybookError(file, [Problem("", message, line)]) from error
    if reader.problems:
        raise PlaybookError(file, reader.problems)
    if not isinstance(data, dict):
        message = "a playbook is a mapping with the keys version, name, steps, ..."
        raise PlaybookError(file, [Problem("", message)])
    try:
        # JSON mode: strict about types, while paths and tuples may come from strings and lists.
        return Playbook.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise PlaybookError(file, _problems(error, reader)) from error


def _problems(error: ValidationError, reader: _Reader) -> list[Problem]:
    found = error.errors()
    # A wrong item leaves its sequence short; only the item itself is worth a line.
    above = {e["loc"][:end] for e in found for end in range(len(e["loc"]))}
    kept = [e for e in found if not (e["type"] == "too_short" and e["loc"] in above)]
    return [problem for e in _merged(kept) for problem in _listed(e, reader)]


def _merged(errors: Iterable[Any]) -> list[dict[str, Any]]:
    """One error for a key that takes a number or a word, instead of one for either."""
    merged: list[dict[str, Any]] = []
    for error in errors:
        loc = error["loc"]
        if not loc or not _EITHER.fullmatch(str(loc[-1])):
            merged.append(dict(error))
        elif merged and merged[-1]["loc"] == loc[:-1] and error["type"] == "literal_error":
            merged[-1]["msg"] += f", or {error['ctx']['expected']}"
        else:
            merged.append({**error, "loc": loc[:-1]})
    return merged


def _listed(error: Any, reader: _Reader) -> list[Problem]:
    inconsistent = error.get("ctx", {}).get("error")
    if isinstance(inconsistent, Inconsistent):
        return [
            Problem(_dotted([*place]), message, reader.nearest_line([*place]))
            for place, message in inconsistent.problems
        ]
    return [_problem(error, reader)]


def _problem(error: Any, reader: _Reader) -> Problem:
    keys: list[str | int] = list(error["loc"])
    if len(keys) > 2 and keys[0] == "steps" and reader.values.get(("steps", keys[1], "step")) == keys[2]:
        # Discriminated unions put the tag (the verb) into the location; it is no key of the file.
        del keys[2]
    message = error["msg"].removeprefix("Value error, ")
    value = error.get("input")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    elif len(keys) == 2 and keys[0] == "steps" and error["type"] in _NO_STEP:
        message = "a step names its verb, e.g. `- step: embed`, and its settings are keys beside it"
    elif isinstance(value, str) and _FLOAT_LIKE.fullmatch(value):
        message += f"; YAML reads {value} as text, write the number without an exponent"
    elif not isinstance(value, (dict, list)) and not (isinstance(value, str) and _SECRET.search(value)):
        message += f" (found {value!r})" if keys[:1] != ["database"] else ""
    return Problem(_dotted(keys), message, reader.nearest_line(keys))


def _dotted(keys: list[str | int]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


class _Reader:
    """Walks the node graph of one file; collects values, line numbers and problems."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self.values: dict[tuple[str | int, ...], str] = {}
        self._environment = environment
        self._lines: dict[tuple[str | int, ...], int] = {}
        self._resolver = yaml.SafeLoader("")

    def read(self, text: str) -> Any:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            # Checked on the event stream: composing an alias bomb or a deep nest would already cost.
            line = event.start_mark.line + 1 if event.start_mark else None
            if isinstance(event, yaml.AliasEvent):
                self.problems.append(Problem("", "aliases are not allowed; write the value out", line))
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
            if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
            if depth > MAX_DEPTH:
                self.problems.append(Problem("", f"nested deeper than {MAX_DEPTH} levels", line))
            tag = getattr(event, "tag", None)
            if tag is not None:
                self.problems.append(Problem("", f"tags such as {tag} are not allowed", line))
            if self.problems and depth > MAX_DEPTH:
                return None
        if self.problems:
            return None
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else self._value(node, ())

    def nearest_line(self, keys: list[str | int]) -> int | None:
        for end in range(len(keys), -1, -1):
            if tuple(keys[:end]) in self._lines:
                return self._lines[tuple(keys[:end])]
        return None

    def _value(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key == "<<" or _UNSTORABLE.search(key):
                self.problems.append(Problem(_dotted([*path]), "a key must be plain text", line))
                continue
            if key in result:
                self.problems.append(Problem(_dotted([*path, key]), "the key stands twice", line))
            self._lines[(*path, key)] = line
            result[key] = self._value(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        raw = str(node.value)
        text = _VARIABLE.sub(lambda match: self._variable(match, path, node), raw)
        self.values[path] = text
        if _UNSTORABLE.search(text):
            message = "text must hold no NUL and no bytes that are not UTF-8"
            self.problems.append(Problem(_dotted([*path]), message, node.start_mark.line + 1))
            return ""
        if getattr(node, "style", None) is not None:
            return text
        tag = str(self._resolver.resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]
        typed = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)
        try:
            if tag.endswith((":int", ":float", ":bool", ":null")):
                return self._resolver.construct_object(typed)
        except ValueError as error:
            self.problems.append(Problem(_dotted([*path]), str(error), node.start_mark.line + 1))
        return text

    def _variable(self, match: re.Match[str], path: tuple[str | int, ...], node: yaml.Node) -> str:
        name, default = match.groups()
        value = self._environment.get(name) or default
        if value is None:
            message = f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            self.problems.append(Problem(_dotted([*path]), message, node.start_mark.line + 1))
            return ""
        return value
