"""Which vector column `ragops init` is about."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ragops.cli.questions import Questions
from ragops.errors import RagopsError, UsageError

if TYPE_CHECKING:
    from ragops.introspection.choices import Choice
    from ragops.session import Session
    from ragops.survey_facts import VectorColumn


def choose_vector(
    columns: Sequence[VectorColumn],
    session: Session,
    questions: Questions,
    *,
    table: str | None,
    column: str | None,
) -> VectorColumn:
    """Return the vector column that is meant. Raises UsageError where that is not clear."""
    from ragops.introspection.choices import Choice, matching

    where = session.target.label
    try:
        found = matching(columns, table, column)
    except ValueError as error:
        raise UsageError("--table is no name of a table", actual=str(error)) from None
    usable = [one for one in found if one.is_supported and one.may_read]
    if not usable:
        raise _no_vector(session, columns, found, table=table, column=column)
    option = "--column" if len({one.table for one in usable}) == 1 else "--table"
    if len(usable) == 1:
        why = (
            ""
            if table is not None and column is not None
            else "the only vector column" + (" of the table" if table is not None else "")
        )
        only = usable[0]
        return questions.take(Choice("--column", only, "given" if not why else "sure", why), only.quoted)
    listed = [f"{one.quoted}  ({_rows(one)})" for one in usable]

    def parse(answer: str) -> VectorColumn:
        named = [one for one, line in zip(usable, listed, strict=True) if answer in (line, one.quoted, one.name)]
        named = named or [one for one in usable if answer == one.table]
        if len(named) != 1:
            raise ValueError(f"{answer!r} names {len(named)} of these columns; type its number")
        return named[0]

    choice: Choice[VectorColumn] = Choice(
        option,
        None,
        "unknown",
        f"which of these vector columns: {', '.join(listed)}" if not questions.asks else "which vector column",
    )
    chosen = questions.settle(
        choice, question="vector column", show=lambda one: one.quoted, parse=parse, options=listed
    )
    questions.refuse_missing(where=where)
    assert chosen is not None
    return chosen


def _rows(column: VectorColumn) -> str:
    return column.type + (", not analyzed yet" if column.rows is None else f", ≈ {column.rows:,} rows")


def _no_vector(
    session: Session,
    columns: Sequence[VectorColumn],
    found: Sequence[VectorColumn],
    *,
    table: str | None,
    column: str | None,
) -> RagopsError:
    """Return the error for a table and column without a vector column that ragops can write."""
    from ragops.postgres.introspection import tables_behind

    where = session.target.label
    for one in found:
        if one.relation_kind not in ("table", "partitioned table"):
            behind = session.through_outages(partial(tables_behind, session.connection, one))
            return UsageError(
                f"{one.table} is a {one.relation_kind}: vectors are written where the rows are",
                where=where,
                expected=f"the table that it reads: {', '.join(behind)}" if behind else "the table that it reads",
                hint=f"--table {behind[0]}" if behind else "--table …",
            )
        if not one.may_read:
            return RagopsError(
                f"permission denied: the role may not read {one.quoted}",
                where=where,
                hint=f"GRANT SELECT ON {one.table} TO …",
            )
    if found:
        return UsageError(
            f"ragops writes no vectors of the type {found[0].kind}",
            where=f"{where}: {found[0].quoted}",
            actual=found[0].type,
            expected="vector or halfvec",
        )
    listed = ", ".join(one.quoted for one in columns if one.is_supported)
    asked = " and ".join(
        part for part in (f"--table {table}" if table else "", f"--column {column}" if column else "") if part
    )
    if asked:
        return UsageError(
            f"no vector column fits {asked}",
            where=where,
            expected=f"one of: {listed}" if listed else "a table with a column of the type vector or halfvec",
            hint="ragops init   lists them on a terminal"
            if listed
            else "check the DSN's database, and that the role may use the schema",
        )
    return RagopsError(
        "no column of the type vector or halfvec is in this database",
        where=where,
        actual=", ".join(f"{one.quoted}: {one.type}" for one in columns) or None,
        hint="check the DSN's database, and that the role has USAGE on the table's schema",
    )
