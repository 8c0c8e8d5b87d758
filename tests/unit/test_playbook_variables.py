"""Environment variables in a playbook: put in first, typed after; what is quoted stays text."""

from __future__ import annotations

import pytest
from playbook_factory import SMALLEST, playbook, problems_of

from ragops.playbook import Playbook

NEITHER = "Input should be a valid integer, or 'auto'"
TYPED: list[tuple[str, dict[str, str], str, object]] = [
    ("workers: {count: '${N:-7}'}", {}, "error", NEITHER + " (found '7')"),
    ("workers:\n  count: ${N:-7}", {}, "workers.count", 7),
    ("workers:\n  count: ${N:-7}", {"N": "2"}, "workers.count", 2),
    ("workers:\n  count: ${N:-7}", {"N": ""}, "workers.count", 7),
    ("workers:\n  count: ${N}", {"N": "2"}, "workers.count", 2),
    ("workers:\n  count: ${N}", {"N": "two"}, "error", NEITHER),
    (
        "workers:\n  count: ${N}",
        {"N": "2.5"},
        "error",
        NEITHER + " (found 2.5)",
    ),
    (
        "workers:\n  count: ${N}",
        {"N": "1e2"},
        "error",
        NEITHER + "; YAML reads 1e2 as text",
    ),
    ("workers:\n  count: 1${N:-0}", {"N": "5"}, "workers.count", 15),
    ("workers:\n  threads: ${T:-}", {}, "workers.threads", None),
    ("workers:\n  threads: ${T:-null}", {}, "workers.threads", None),
    ("workers:\n  threads: ${T:-~}", {"T": "4"}, "workers.threads", 4),
    ("database:\n  allow_plaintext: ${P:-false}", {}, "database.allow_plaintext", False),
    ("database:\n  allow_plaintext: ${P:-false}", {"P": "true"}, "database.allow_plaintext", True),
    ("database:\n  allow_plaintext: ${P:-false}", {"P": "1"}, "error", "Input should be a valid boolean"),
    ("database:\n  dsn: ${D:-}", {}, "database.dsn", None),
    ("database:\n  dsn: ${D:-}", {"D": "dbname=rag"}, "database.dsn", "dbname=rag"),
    ("description: '${A:-3}'", {}, "description", "3"),
    ('description: "${A:-true}"', {}, "description", "true"),
    ("description: '${A:-}'", {}, "description", ""),
    ("description: ${A:-3}", {}, "error", "Input should be a valid string (found 3)"),
    ("description: a ${A} b ${B:-c}", {"A": "x"}, "description", "a x b c"),
    ("description: ${A}", {"A": "${B}"}, "description", "${B}"),
    ("description: ${A}", {"A": "x: [1, &b *c] # no YAML"}, "description", "x: [1, &b *c] # no YAML"),
    ("description: |\n  ${A}\n  7", {"A": "1"}, "description", "1\n7"),
    ("description: $A", {"A": "x"}, "description", "$A"),
    ("description: ${a-b}", {}, "description", "${a-b}"),
    ("validation:\n  max_distance: ${M:-0.5}", {}, "validation.max_distance", 0.5),
    ("validation:\n  max_distance: ${M:-0.5}", {"M": "2"}, "validation.max_distance", 2.0),
    ("description: '${A:-{b}}'", {}, "description", "{b}"),
    ("description: '${A:-{b} {c}} d'", {}, "description", "{b} {c} d"),
    ("description: '${A:-{b}}'", {"A": "{c}"}, "description", "{c}"),
    ("description: '${A:-{}'", {}, "description", "{"),
    ("description: ${A}", {"A": "\udcff"}, "error", "text must hold no NUL and no bytes that are not UTF-8"),
]


def _value(made: Playbook, path: str) -> object:
    value: object = made
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize(("text", "environment", "path", "expected"), TYPED)
def test_typed_after_expansion(text: str, environment: dict[str, str], path: str, expected: object) -> None:
    if path == "error":
        (problem,) = problems_of(SMALLEST + text, environment)
        assert problem.message.startswith(str(expected))
        return
    value = _value(playbook(text, environment=environment), path)
    assert value == expected
    assert type(value) is type(expected)


def test_every_unset_variable_is_named_with_its_line() -> None:
    found = problems_of(SMALLEST + "description: ${A} ${B}\nmodel:\n  query_prefix: '${C}'\n")
    assert [(p.path, p.line) for p in found] == [("description", 5), ("description", 5), ("model.query_prefix", 7)]
    assert [p.message.split()[3] for p in found] == ["A", "B", "C"]
    assert found[0].message == "the environment variable A is not set; set it, or write ${A:-default}"


def test_keys_are_not_expanded() -> None:
    (problem,) = problems_of(SMALLEST + "${A}: 1\n", {"A": "description"})
    assert (problem.path, problem.message, problem.line) == ("${A}", "unknown key", 5)


def test_a_value_of_the_environment_cannot_add_keys() -> None:
    made = playbook("description: ${A}", environment={"A": "x\nname: other\nsteps: []"})
    assert made.name == "test"
    assert made.description == "x\nname: other\nsteps: []"
