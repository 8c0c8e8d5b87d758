"""Names of tables and columns: quoted or refused, never cut, never executed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import sql

from ragops.playbook.names import MAX_IDENTIFIER_BYTES, TableName, check_identifier
from ragops.postgres.statements import identifier

PARSED: list[tuple[str, str | None, str]] = [
    ("documents", None, "documents"),
    ("public.documents", "public", "documents"),
    ('"documents"', None, "documents"),
    ('"my schema"."a.b"', "my schema", "a.b"),
    ('rag."a.b"', "rag", "a.b"),
    ('"a.b".c', "a.b", "c"),
    ('"a""b"', None, 'a"b'),
    ('""""', None, '"'),
    ('"."', None, "."),
    ("Documents", None, "Documents"),
    ("my table", None, "my table"),
    ("täble", None, "täble"),
    ("x'; DROP TABLE users; --", None, "x'; DROP TABLE users; --"),
    ("%s", None, "%s"),
    ("{documents}", None, "{documents}"),
    ("n" * 63, None, "n" * 63),
    ("é" * 31 + "e", None, "é" * 31 + "e"),
    ("s" * 63 + "." + "n" * 63, "s" * 63, "n" * 63),
    ('"' + '""' * 63 + '"', None, '"' * 63),
]
REFUSED: list[tuple[str, str]] = [
    ("", "is not a table name"),
    (".", "is not a table name"),
    ("a.", "is not a table name"),
    (".a", "is not a table name"),
    ("a..b", "is not a table name"),
    ("a.b.c", "is not a table name"),
    ('""', "is not a table name"),
    ('a.""', "is not a table name"),
    ('"a', "is not a table name"),
    ('a"', "is not a table name"),
    ('a"b', "is not a table name"),
    ('"a"b', "is not a table name"),
    ('"a"b"', "is not a table name"),
    ('"a" . "b"', "is not a table name"),
    ('users"; DROP TABLE users; --', "is not a table name"),
    ('"', "is not a table name"),
    ('"""', "is not a table name"),
    ('"a".', "is not a table name"),
    ("a\0b", "NUL"),
    ('"a\0"', "NUL"),
    ("n" * 64, "at most 63 bytes, this one has 64"),
    ("é" * 32, "at most 63 bytes, this one has 64"),
    ("s" * 64 + ".n", "at most 63 bytes, this one has 64"),
    ("s." + "n" * 100, "at most 63 bytes, this one has 100"),
    ("a\ud800", "UTF-8"),
]


@pytest.mark.parametrize(("text", "schema", "name"), PARSED)
def test_parsed(text: str, schema: str | None, name: str) -> None:
    assert TableName.parse(text) == TableName(schema, name)


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableName.parse(text)


@pytest.mark.parametrize("name", ["", "a\0", "n" * 64, "\udcff"])
def test_column_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name"):
        check_identifier(name)


def _fits(name: str) -> bool:
    return len(name.encode()) <= MAX_IDENTIFIER_BYTES


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\"'.;-%{}\\ "),
    min_size=1,
    max_size=63,
).filter(_fits)


@given(schema=st.none() | names, name=names)
@example(schema=None, name='"')
@example(schema='"; DROP TABLE users; --', name="a.b")
@example(schema="s" * 63, name="é" * 31 + "x")
@example(schema=".", name='"."')
def test_quoting_round_trip(schema: str | None, name: str) -> None:
    table = TableName(schema, name)
    quoted = identifier(table).as_string(None)
    assert TableName.parse(quoted) == table
    # Outside of the quotes stands nothing but the dot between the parts.
    assert _unquoted(quoted) == ("." if schema else "")


@given(name=names, tail=st.sampled_from(["; DROP TABLE users", '"; --', "'", ".x"]))
def test_a_column_stays_one_identifier(name: str, tail: str) -> None:
    column = name + tail
    try:
        check_identifier(column)
    except ValueError as error:
        assert not _fits(column)
        assert "at most 63 bytes" in str(error)
    else:
        assert _fits(column)
    assert _unquoted(sql.Identifier(column).as_string(None)) == ""


@given(text=st.text(max_size=200))
def test_any_text_is_one_table_or_refused(text: str) -> None:
    try:
        table = TableName.parse(text)
    except ValueError:
        return
    for part in (table.schema, table.name):
        assert part is None or check_identifier(part) == part
    quoted = identifier(table).as_string(None)
    assert _unquoted(quoted) == ("." if table.schema else "")
    assert TableName.parse(quoted) == table


def _unquoted(text: str) -> str:
    """What stands outside of double quotes; read one character at a time, as the server would."""
    outside = []
    inside = False
    position = 0
    while position < len(text):
        character = text[position]
        if inside and text[position : position + 2] == '""':
            position += 1
        elif character == '"':
            inside = not inside
        elif not inside:
            outside.append(character)
        position += 1
    assert not inside
    return "".join(outside)
