"""Values of the command line pass the same validators as those of a file; nothing gets lost on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playbook_factory import playbook, realign

from ragops.cli.queue import _source
from ragops.cli.session import overrides
from ragops.errors import OverrideError, UsageError
from ragops.playbook import Playbook
from ragops.playbook.model import DebugReference, Reference, Source


def source(**options: Any) -> dict[str, dict[str, Any]]:
    """What `ragops queue reseed` makes of its options."""
    given = {
        **dict.fromkeys(("folder", "pattern", "exclude", "table", "query", "manifest")),
        **{"id_column": "id", "text_column": "content"},
        **options,
    }
    return overrides(source=_source(**given))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("--table", source(table="a.b.c.d"), "source.table: 'a.b.c.d' is not a table name; write name or schema.name"),
    ("--table", source(table=""), "source.table: '' is not a table name; write name or schema.name"),
    ("--table", source(table="n" * 64), "source.table: a name has at most 63 bytes, this one has 64"),
    ("--id-column", source(table="t", id_column=""), "source.id_column: a name must not be empty (found '')"),
    ("--text-column", source(table="t", text_column="a\0b"), "source.text_column: a name must not contain a NUL"),
    ("--pattern", source(pattern=[""]), "source.include[0]: String should have at least 1 character (found '')"),
    ("--pattern", source(folder=Path("x"), pattern=["*", ""]), "source.include[1]: String should have at least"),
    ("--query", source(query=""), "source.query: String should have at least 1 character (found '')"),
    ("--folder", source(folder=3), "source.folder: Input should be an instance of Path (found 3)"),
    ("--manifest", source(manifest=3), "source.manifest: Input should be an instance of Path (found 3)"),
    ("--workers", overrides(workers=0), "workers.count: Input should be greater than 0, or 'auto' (found 0)"),
    ("--workers", overrides(workers=-3), "workers.count: Input should be greater than 0, or 'auto' (found -3)"),
    ("--threads", overrides(threads=0), "workers.threads: Input should be greater than 0 (found 0)"),
    ("--batch-size", overrides(batch_size=0), "workers.batch_size: Input should be greater than 0 (found 0)"),
    ("--sample", {"validation": {"sample": 0}}, "validation.sample: Input should be greater than 0 (found 0)"),
    ("--model", {"model": {"file": 3}}, "model.file: Input should be an instance of Path (found 3)"),
]


@pytest.mark.parametrize(("option", "changes", "message"), REFUSED)
def test_a_value_that_the_playbook_refuses(option: str, changes: dict[str, Any], message: str) -> None:
    original = playbook()
    with pytest.raises(OverrideError) as caught:
        original.with_changes(**changes)
    error = caught.value
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    assert error.what == "invalid value on the command line"
    assert error.actual is not None
    assert error.actual.startswith(message)
    assert [problem.line for problem in error.problems] == [None]
    assert original == playbook()


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(OverrideError) as caught:
        playbook().with_changes(source={"table": "a.b.c.d", "id_column": ""}, workers={"count": -3, "cuont": 1})
    shown = caught.value.as_dict()
    assert shown["what"] == "invalid values on the command line"
    assert isinstance(shown["problems"], list)
    assert sorted(problem["path"] for problem in shown["problems"]) == [
        "source.id_column",
        "source.table",
        "workers.count",
        "workers.cuont",
    ]
    assert json.loads(json.dumps(shown)) == shown


def test_parts_that_contradict_each_other_are_found_across_sections() -> None:
    with pytest.raises(OverrideError, match="invalid value") as caught:
        playbook().with_changes(tables={"document_chunks": None})
    assert [problem.path for problem in caught.value.problems] == ["indexes[1]"]
    with pytest.raises(OverrideError) as caught:
        playbook("source: {folder: a}").with_changes(source={"table": "t"})
    assert str(caught.value.problems[0]) == "source: one source only, found folder and table"


@pytest.mark.parametrize("dsn", ["postgresql://u:s3cret-canary@h/db", "host=h password=s3cret-canary"])
def test_a_refused_value_never_repeats_a_secret(dsn: str) -> None:
    for changes in ({"database": {"dsn": [dsn]}}, {"database": {"dsn": dsn, "connect_timeout_s": dsn}}):
        with pytest.raises(OverrideError) as caught:
            playbook().with_changes(**changes)
        assert "s3cret-canary" not in json.dumps(caught.value.as_dict()) + str(caught.value)
    with pytest.raises(OverrideError) as caught:
        playbook(f"database: {{dsn: '{dsn}'}}").with_changes(workers={"count": 0}, model={"pooling": dsn})
    assert "s3cret-canary" not in json.dumps(caught.value.as_dict()) + str(caught.value)


RICH = """
database: {dsn: "postgresql://u:pw@h/db"}
model: {file: m.gguf, parameters: {n_threads: cpu_count}, query_prefix: "${PREFIX}"}
build: {features: {AVX2: false}, version: "0.3.16"}
reference: {openai: {url: "http://backend:8080/v1"}}
workers: {count: planned, python: /opt/python, repack_weights: false}
source: {manifest: list.txt, root: corpus}
tables: {document_chunks: null, parsed_files: null, documents: {table: rag.docs, columns: {metadata: null}}}
indexes: [{name: i, table: documents, metric: ip}]
validation: {thresholds: [0.1], queries: [water]}
"""


@pytest.mark.parametrize("made", [playbook(), realign(), playbook(RICH, environment={"PREFIX": "query: "})])
def test_a_playbook_without_changes_comes_out_equal(made: Playbook) -> None:
    for same in (made.with_changes(), made.with_changes(workers={}, database={}, source={})):
        assert same == made
        assert same.model_dump() == made.model_dump()
        assert same.model_dump_json() == made.model_dump_json()
    again = made.with_changes(workers={"count": 7}).with_changes(workers={"count": made.workers.count})
    assert again == made


def test_changes_replace_only_what_they_name() -> None:
    made = playbook(RICH, environment={"PREFIX": "query: "})
    changes = overrides(workers=2, threads=3, batch_size=4, no_cache=True, model=Path("other.gguf"))
    changed = made.with_changes(**changes, reference=dict(Reference(debug=DebugReference(url="http://h/{query}"))))
    assert changed.workers.model_dump() == {
        **made.workers.model_dump(),
        **{"count": 2, "threads": 3, "batch_size": 4, "cache_mib": 0},
    }
    assert changed.model.file == Path("other.gguf")
    assert changed.model.parameters == made.model.parameters
    assert (changed.reference.openai, changed.reference.debug) == (None, DebugReference(url="http://h/{query}"))
    assert (changed.tables, changed.steps, changed.source) == (made.tables, made.steps, made.source)
    assert made == playbook(RICH, environment={"PREFIX": "query: "})
    assert made.with_changes(workers={"count": "planned"}).workers.count == "auto"


def test_a_source_of_the_command_line_replaces_the_playbook_s() -> None:
    made = playbook("source: {folder: a, patterns: ['*.md']}")
    assert made.with_changes(**source(table="kb.articles")).source == Source(table="kb.articles")
    assert made.with_changes(**source(pattern=["*.txt"])).source.include == ("*.txt",)
    assert made.with_changes(**source()) == made
