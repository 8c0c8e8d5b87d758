"""What the strict loader refuses before it looks at a playbook's meaning, always with the line."""

from __future__ import annotations

import json
import time
import traceback
from pathlib import Path

import pytest
from playbook_factory import HEAD, SMALLEST, playbook, problems_of

from ragops.errors import PlaybookError, UsageError
from ragops.playbook import find_playbook, load_playbook, parse_playbook
from ragops.playbook.loading import MAX_BYTES, MAX_DEPTH

SECRET = "s3cret-canary"
DSN = f"postgresql://u:{SECRET}@db.example.com/rag"

REFUSED: list[tuple[str, str, str, int | None, str]] = [
    ("tag", SMALLEST + "description: !!str 3\n", "", 5, "tags such as tag:yaml.org,2002:str are not allowed"),
    ("own tag", SMALLEST + "description: !secret x\n", "", 5, "tags such as !secret are not allowed"),
    (
        "python tag",
        SMALLEST + "description: !!python/object/apply:os.system [ls]\n",
        "",
        5,
        "tags such as tag:yaml.org,2002:python/object/apply:os.system are not allowed",
    ),
    (
        "tagged mapping",
        SMALLEST + "model: !!map {}\n",
        "",
        5,
        "tags such as tag:yaml.org,2002:map are not allowed",
    ),
    (
        "alias",
        SMALLEST + "description: &a x\nmodel: {query_prefix: *a}\n",
        "",
        6,
        "aliases are not allowed; write the value out",
    ),
    ("unknown alias", SMALLEST + "description: *a\n", "", 5, "aliases are not allowed; write the value out"),
    ("merge key", SMALLEST + "workers:\n  <<: {count: 2}\n", "workers", 6, "a key must be plain text"),
    ("key is a list", SMALLEST + "? [a, b]\n: 1\n", "", 5, "a key must be plain text"),
    ("key is a mapping", SMALLEST + "model:\n  ? {a: b}\n  : 1\n", "model", 6, "a key must be plain text"),
    ("key holds NUL", SMALLEST + '"a\\0b": 1\n', "", 5, "a key must be plain text"),
    ("duplicate key", SMALLEST + "name: again\n", "name", 5, "duplicate key"),
    (
        "duplicate key below",
        HEAD + "workers:\n  count: 1\n  count: 2\n",
        "workers.count",
        5,
        "duplicate key",
    ),
    (
        "duplicate key in a step",
        HEAD + "steps:\n  - step: embed\n    until: 1\n    until: 1\n",
        "steps[0].until",
        6,
        "duplicate key",
    ),
    (
        "deep sequences",
        SMALLEST + "description: " + "[" * 30 + "]" * 30,
        "",
        5,
        f"nested deeper than {MAX_DEPTH} levels",
    ),
    ("deep mappings", SMALLEST + "a:" + " {a:" * 30 + "}" * 30, "", 5, f"nested deeper than {MAX_DEPTH} levels"),
    (
        "unclosed",
        SMALLEST + "model: {\n",
        "",
        6,
        "not valid YAML: expected the node content, but found '<stream end>'",
    ),
    (
        "two documents",
        SMALLEST + "---\n" + SMALLEST,
        "",
        5,
        "not valid YAML: but found another document",
    ),
    (
        "tab",
        SMALLEST + "model:\n\tfile: x\n",
        "",
        6,
        "not valid YAML: found character '\\t' that cannot start any token",
    ),
    ("NUL", SMALLEST + "description: a\0b\n", "", 5, "not valid YAML: the character U+0000 is not allowed"),
    ("control character", SMALLEST + "\x07", "", 5, "not valid YAML: the character U+0007 is not allowed"),
    (
        "escaped NUL",
        SMALLEST + 'description: "a\\0b"\n',
        "description",
        5,
        "text must hold no NUL and no bytes that are not UTF-8",
    ),
    (
        "escaped surrogate",
        SMALLEST + 'description: "\\ud800"\n',
        "description",
        5,
        "text must hold no NUL and no bytes that are not UTF-8",
    ),
    ("no number after all", SMALLEST + "workers: {count: 0b_}\n", "workers.count", 5, "invalid literal for int()"),
    ("too many digits", SMALLEST + f"workers: {{count: {'1' * 5000}}}\n", "workers.count", 5, "Exceeds the limit"),
    ("empty file", "", "", None, "a playbook is a mapping with the keys version, name, steps, ..."),
    ("comments only", "# nothing\n", "", None, "a playbook is a mapping"),
    ("null", "~\n", "", None, "a playbook is a mapping"),
    ("a list", "- version: 1\n", "", None, "a playbook is a mapping"),
    ("a text", "realign", "", None, "a playbook is a mapping"),
    ("a number", "42", "", None, "a playbook is a mapping"),
]


@pytest.mark.parametrize(
    ("text", "path", "line", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused_with_place(text: str, path: str, line: int | None, message: str) -> None:
    (problem,) = problems_of(text)
    assert (problem.path, problem.line) == (path, line)
    assert problem.message.startswith(message)
    assert "\n" not in problem.message


def test_structural_problems_are_listed_together() -> None:
    found = problems_of(SMALLEST + "description: !a x\nmodel: !b {}\nbuild: *c\nchunking: *d\n")
    assert [problem.line for problem in found] == [5, 6, 7, 8]


def test_alias_bomb_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 15)]
    started = time.monotonic()
    found = problems_of("\n".join(lines))
    assert time.monotonic() - started < 2
    assert len(found) == 140
    assert {problem.message for problem in found} == {"aliases are not allowed; write the value out"}


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_depth_without_end_is_refused_at_once(opening: str) -> None:
    # A loader that recurses would end in RecursionError.
    (problem,) = problems_of(opening * 50_000)
    assert problem.message == f"nested deeper than {MAX_DEPTH} levels"


def test_byte_order_mark_and_anchor_are_harmless() -> None:
    assert parse_playbook("\ufeff" + SMALLEST, file="f", environment={}).name == "test"
    assert playbook("description: &here x").description == "x"


def test_playbook_error_as_json() -> None:
    with pytest.raises(PlaybookError) as caught:
        parse_playbook(SMALLEST + "wrkers: 1\nname: x\n", file="p.yaml", environment={})
    shown = json.loads(json.dumps(caught.value.as_dict()))
    assert shown["problems"] == [{"path": "name", "message": "duplicate key", "line": 6}]
    assert shown["what"] == "the playbook has 1 problem"
    assert shown["hint"] == "fix the file, then run: ragops playbook check p.yaml"


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(SMALLEST.encode() + "description: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(PlaybookError) as caught:
        load_playbook(str(file), environment={})
    (problem,) = caught.value.problems
    assert str(problem) == "line 5: not valid UTF-8: byte 0xe9"


def test_size_limit(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text(SMALLEST + "#" * (MAX_BYTES - len(SMALLEST)))
    assert load_playbook(str(file), environment={}).name == "test"
    file.write_text(SMALLEST + "#" * (MAX_BYTES - len(SMALLEST) + 1))
    with pytest.raises(UsageError, match="too large") as caught:
        load_playbook(str(file), environment={})
    assert caught.value.actual == f"{MAX_BYTES + 1:,} bytes"


@pytest.mark.parametrize("name", ["nothing.yaml", "./nothing.yaml", "", "..", "a\0b", "/dev/null", "../playbooks"])
def test_unknown_playbook_names_the_shipped_ones(name: str) -> None:
    with pytest.raises(UsageError, match="unknown playbook") as caught:
        find_playbook(name)
    assert caught.value.exit_code == 2
    assert "realign.yaml" in (caught.value.expected or "")


def test_name_that_the_file_system_refuses() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        find_playbook("n" * 5000)


@pytest.mark.parametrize("name", ["realign", "realign.yaml"])
def test_shipped_playbook_by_name(name: str) -> None:
    assert find_playbook(name).name == "realign.yaml"


def test_own_file_comes_before_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "realign.yaml").write_text(SMALLEST)
    monkeypatch.chdir(tmp_path)
    assert load_playbook("realign.yaml", environment={}).name == "test"


@pytest.mark.parametrize(
    "wrong",
    [
        "database: ${RAGOPS_DSN}",
        "database: {dsn: '${RAGOPS_DSN}', connect_timeout_s: '${RAGOPS_DSN}'}",
        "source: ${RAGOPS_DSN}",
        "database: {dsn: '${RAGOPS_DSN}'}\nworkers: {count: x}",
        "database: {dsn: '${RAGOPS_DSN}'}\ntables: {documents: {table: d}, document_chunks: {table: d}}",
        "database: {dsn: ['${RAGOPS_DSN}']}",
        'database: {dsn: "${RAGOPS_DSN}"}\ndescription: "\\ud800"',
        "database: {dsn: '${RAGOPS_DSN}', '${RAGOPS_DSN}': 1}",
        "workers: {count: 'host=h password=s3cret-canary'}",
        "dsn: ${RAGOPS_DSN}",
    ],
)
def test_no_problem_and_no_traceback_repeats_the_password(wrong: str) -> None:
    with pytest.raises(PlaybookError) as caught:
        parse_playbook(f"{SMALLEST}{wrong}\n", file="p.yaml", environment={"RAGOPS_DSN": DSN})
    shown = "".join(traceback.format_exception(caught.value)) + json.dumps(caught.value.as_dict())
    assert SECRET not in shown


def test_repr_hides_the_password() -> None:
    made = playbook("database: {dsn: '${RAGOPS_DSN}'}", environment={"RAGOPS_DSN": DSN})
    assert made.database.dsn == DSN
    assert SECRET not in repr(made) + str(made)
