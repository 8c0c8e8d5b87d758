"""Load a playbook from YAML: strictly, with line numbers, reporting every problem at once.

Only mappings, sequences and plain scalars are accepted. Aliases, tags, duplicate keys and deep
nesting are refused while the file is read, before anything is built from it. Environment variables
are expanded first and scalars typed afterwards, so `until: ${UNTIL:-1000}` is a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ragops.errors import PlaybookError, Problem, UsageError
from ragops.playbook.leaks import reference_problems
from ragops.playbook.model import Playbook
from ragops.playbook.problems import Place, dotted, problems_of

# A campaign's playbook takes about 5 KB. The limit keeps a mistyped path (a model, a dump) out of memory.
MAX_BYTES = 1 << 20
# The model nests five levels deep; anything beyond this is an attack on the parser's recursion.
MAX_DEPTH = 20
# A default may hold pairs of braces: `${RAGOPS_TEXT:-{title} {body}}`.
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-((?:\{[^{}]*\}|[^}])*))?\}")
# PostgreSQL's text and jsonb refuse NUL and lone surrogates, and the ledger stores the whole playbook.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def shipped_playbooks() -> Path:
    """Return the folder of the playbooks that come with the package."""
    packaged = Path(str(resources.files("ragops"))) / "playbooks"
    # A source checkout keeps them at its top level; the wheel carries them inside the package.
    return packaged if packaged.is_dir() else packaged.parents[1] / "playbooks"


def find_playbook(name: str) -> Path:
    """Return the file that `name` means: a path, or the name of a shipped playbook.

    Raises UsageError if neither exists.
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

    Raises UsageError if it cannot be read, PlaybookError with all problems if it is wrong.
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
    """Parse and validate a playbook's text. Raises PlaybookError with all problems."""
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
        playbook = Playbook.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise PlaybookError(file, problems_of(error, line_of=reader.nearest_line)) from error
    # Not a validator of the model: a campaign that an older version started has to be resumed and undone.
    leaks = [
        Problem(dotted(place), message, reader.nearest_line(place))
        for place, message in reference_problems(playbook.reference)
    ]
    if leaks:
        raise PlaybookError(file, leaks)
    return playbook


class _Reader:
    """Reads the node graph of one file; collects line numbers and problems."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._environment = environment
        self._lines: dict[Place, int] = {}
        self._resolver = yaml.SafeLoader("")

    def read(self, text: str) -> Any:
        """Return the file's values; None if `problems` has an entry or the file is empty."""
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            # Checked on the event stream: `compose` already resolves aliases ("billion laughs") and recurses
            # once per level, so both would have done their damage by then.
            line = event.start_mark.line + 1 if event.start_mark else None
            if isinstance(event, yaml.AliasEvent):
                self.problems.append(Problem("", "aliases are not allowed; write the value out", line))
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
            if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
            if depth > MAX_DEPTH:
                self.problems.append(Problem("", f"nested deeper than {MAX_DEPTH} levels", line))
                return None
            if (tag := getattr(event, "tag", None)) is not None:
                self.problems.append(Problem("", f"tags such as {tag} are not allowed", line))
        if self.problems:
            return None
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else self._value(node, ())

    def nearest_line(self, place: Place) -> int | None:
        """Return the line of a key or, where the file lacks it, of the nearest key above it."""
        lines = (self._lines.get(place[:end]) for end in range(len(place), -1, -1))
        return next((line for line in lines if line is not None), None)

    def _value(self, node: yaml.Node, path: Place) -> Any:
        """Return the value of a node and note the lines of its keys."""
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, i)) for i, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return self._scalar(node, path)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key == "<<" or _UNSTORABLE.search(key):
                self.problems.append(Problem(dotted(path), "a key must be plain text", line))
                continue
            if key in result:
                self.problems.append(Problem(dotted((*path, key)), "duplicate key", line))
            self._lines[(*path, key)] = line
            result[key] = self._value(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node, path: Place) -> Any:
        """Return a scalar with its variables expanded, typed unless it is quoted."""

        def expand(match: re.Match[str]) -> str:
            name, default = match.groups()
            # As in a shell's `${NAME:-default}`, an empty variable counts as unset.
            value = self._environment.get(name) or default
            if value is None:
                message = f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
                self.problems.append(Problem(dotted(path), message, node.start_mark.line + 1))
            return value or ""

        text = _VARIABLE.sub(expand, str(node.value))
        if _UNSTORABLE.search(text):
            message = "text must hold no NUL and no bytes that are not UTF-8"
            self.problems.append(Problem(dotted(path), message, node.start_mark.line + 1))
            return ""
        if getattr(node, "style", None) is not None:  # quoted or a block: text, whatever it looks like
            return text
        # Resolved here and not by `compose`, because only the expanded text has a type.
        tag = str(self._resolver.resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]
        typed = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)
        try:
            if tag.endswith((":int", ":float", ":bool", ":null")):
                return self._resolver.construct_object(typed)
        except ValueError as error:
            self.problems.append(Problem(dotted(path), str(error), node.start_mark.line + 1))
        return text
