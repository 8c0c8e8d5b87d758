"""The text of a playbook that `ragops init` writes: read back, it says what was chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragops.errors import UsageError
from ragops.introspection.choices import Campaign
from ragops.introspection.texts import TextChoice, column_text
from ragops.introspection.writing import Draft, write_playbook
from ragops.introspection.yaml_text import block, comment, scalar
from ragops.playbook import parse_playbook
from ragops.playbook.model import Playbook

# Neither NUL nor half a character can be stored, and `${` begins a variable.
TEXTS = st.text(st.characters(exclude_characters="\x00$", exclude_categories=["Cs"]), min_size=1, max_size=40)
NAMES = TEXTS.filter(lambda name: len(name.encode()) <= 63)


def read(draft: Draft, **variables: str) -> Playbook:
    text = write_playbook(draft, file="my playbook.yaml", written_by="ragops init (x)")
    return parse_playbook(text, file="x.yaml", environment=variables)


def draft(campaign: Campaign = "repair", **changes: object) -> Draft:
    return Draft(campaign, "public.docs", "embedding", column_text("content"), **changes)  # type: ignore[arg-type]


@settings(max_examples=30)
@given(TEXTS, TEXTS, NAMES, st.lists(NAMES, max_size=3, unique=True))
def test_any_name_text_and_condition_is_read_back_as_it_is(
    sql: str, where: str, column: str, key: list[str]
) -> None:
    written = Draft(
        "repair",
        '"my ""schema"."a.b"',
        column,
        TextChoice("x", sql=sql),
        key=tuple(key),
        conditions=(where, "true"),
        comments=(sql, where),
    )
    first, second = read(written).targets
    assert (first.table, first.embedding, first.key) == ('"my ""schema"."a.b"', column, tuple(key))
    assert (first.sql, first.where, second.where) == (sql, where, "true")


@given(TEXTS)
def test_a_line_of_several_is_a_block_that_people_can_read(text: str) -> None:
    written = f"targets:\n  - sql: {block(text, indent=6)}\n    x: 1\n"
    import yaml

    assert yaml.safe_load(written)["targets"][0] == {"sql": text, "x": 1}
    assert all(line.startswith("  # ") for line in comment(text, indent=2).splitlines())


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("kb.articles", "kb.articles"),
        ('"Doc Store"', "'\"Doc Store\"'"),
        ("no", '"no"'),
        ("1e3", '"1e3"'),
        ("{content}", '"{content}"'),
        ("{title}\n\n{body}", '"{title}\\n\\n{body}"'),
        ('it\'s "x"', '"it\'s \\"x\\""'),
        ("\x85\ufeff\U0001f600", '"\\x85\\ufeff\U0001f600"'),
    ],
)
def test_a_text_is_quoted_where_yaml_needs_it(text: str, written: str) -> None:
    assert scalar(text) == written


def test_what_would_be_a_variable_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot hold this text"):
        scalar("where x = '${PGPASSWORD}'")


@pytest.mark.parametrize("file", ["/models/my model.gguf", "C:\\models\\{x.gguf", "/plain.gguf", "/a'b\"c.gguf"])
def test_the_model_is_the_default_of_its_variable(file: str) -> None:
    assert str(read(draft(model=Path(file))).model.file) == str(Path(file))
    assert read(draft(model=Path(file)), RAGOPS_MODEL="other.gguf").model.file == Path("other.gguf")


def test_a_path_that_a_default_cannot_hold_comes_from_the_variable() -> None:
    assert read(draft(model=Path("/a}b.gguf"))).model.file is None


def test_what_was_measured_stands_in_the_model_and_the_steps() -> None:
    measured = draft(pooling="cls", document_prefix="passage: ", long_text="truncate", dimensions=128)
    playbook = read(measured)
    assert playbook.model.dimensions == 128
    assert (playbook.model.pooling, playbook.model.document_prefix) == ("cls", "passage: ")
    assert playbook.targets[0].long_text == "truncate"
    assert read(measured, RAGOPS_POOLING="mean").model.pooling == "mean"
    repaired = read(draft(rows=("missing", "broken", "divergent")))
    (selected,) = [step for step in repaired.steps if step.step == "select_rows"]
    assert selected.rows == ("missing", "broken", "divergent")


def test_a_second_column_is_written_beside() -> None:
    playbook = read(draft("reembed"))
    assert playbook.targets[0].write == "beside"
    assert [step.step for step in playbook.steps][-2:] == ["drain", "cut_over"]
    assert playbook.name == "reembed-public-docs"


def test_a_realign_maps_the_table_and_leaves_out_what_is_not_there() -> None:
    mapped = (("id", "key"), ("file_id", ""), ("file_path", "path"), ("metadata", ""), ("content", "body"))
    playbook = read(draft("realign", mapped=(*mapped, ("embedding", "vector")), tables=("document_chunks",)))
    assert playbook.tables.columns_of("documents") == {
        "id": "key",
        "file_path": "path",
        "content": "body",
        "embedding": "vector",
    }
    assert set(playbook.tables.mapped()) == {"documents", "document_chunks", "files_queue"}
    (emptied,) = [step for step in playbook.steps if step.step == "empty_tables"]
    assert [entry.table for entry in emptied.tables] == ["documents", "document_chunks", "files_queue"]


def test_no_password_and_no_dsn_is_written() -> None:
    text = write_playbook(draft(), file="x.yaml", written_by="y")
    assert "dsn: ${RAGOPS_DSN:-}" in text
