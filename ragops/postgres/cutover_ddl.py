"""Compose the statements of a second vector column: make it, note writes, exchange it with the first, drop it.

What `--dry-run` prints, what runs and what the ledger keeps come from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from ragops.beside_facts import BesideFacts, CutoverRow, Dependent, Traits
from ragops.facts import ColumnFacts, TableFacts
from ragops.postgres.ddl import table_identifier
from ragops.postgres.statements import Statement

# Types whose text form no setting changes; a key of another type is noted with the settings that the queue has.
_PLAIN_TYPE = re.compile(
    r"(small|big)?int(eger)?|uuid|text|character( varying)?(\(\d+\))?|boolean|numeric(\(.*\))?"
)
_TEXT_FORM = (
    " SET DateStyle = 'ISO, YMD' SET TimeZone = 'UTC' SET IntervalStyle = 'postgres' SET extra_float_digits = 1"
    " SET bytea_output = 'hex' SET lc_monetary = 'C'"
)
# Its name comes last, so that it notes a row as all other triggers have left it. An error must not reach the
# application: it would be one of a write that has nothing to do with ragops.
_FUNCTION = """CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp{settings} AS $ragops$
DECLARE
    present text := {new};
    former text;
BEGIN
    INSERT INTO ragops.captured (cutover_id, key) VALUES ({id}, present);
    IF TG_OP = 'UPDATE' THEN
        former := {old};
        IF former <> present THEN
            INSERT INTO ragops.captured (cutover_id, key) VALUES ({id}, former);
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'ragops could not note that a row of % was written: %', TG_RELID::regclass, SQLERRM;
    RETURN NULL;
END $ragops$"""
# `ragops.writes` is set by ragops alone, in the transactions that store vectors.
_TRIGGER = """CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE ON {table} FOR EACH ROW
WHEN (pg_catalog.current_setting('ragops.writes', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION {function}()"""


@dataclass(frozen=True, slots=True)
class IndexRename:
    """Indexes that exchange their names with the columns: `name` goes aside, `second` takes its place."""

    schema: str
    name: str
    aside: str
    second: str


def column_type(facts: BesideFacts, dimensions: int) -> sql.Composed:
    return sql.SQL("{}({})").format(sql.SQL(facts.new_type), sql.Literal(dimensions))


def _alter(table: TableFacts) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} ").format(table_identifier(table))


def add_column_statements(table: TableFacts, column: str, type: sql.Composed, like: Traits) -> Iterator[Statement]:
    """Yield what adds a column like another one. Nullable and without a default, so that no row is rewritten."""
    name = sql.Identifier(column)
    yield _alter(table) + sql.SQL("ADD COLUMN {} {}").format(name, type)
    if like.storage:
        yield _alter(table) + sql.SQL("ALTER COLUMN {} SET STORAGE {}").format(name, sql.SQL(like.storage))
    if like.statistics is not None:
        target = sql.Literal(like.statistics)
        yield _alter(table) + sql.SQL("ALTER COLUMN {} SET STATISTICS {}").format(name, target)
    if like.comment is not None:
        where = sql.Identifier(table.schema, table.name, column)
        yield sql.SQL("COMMENT ON COLUMN {} IS {}").format(where, sql.Literal(like.comment))
    for role, privilege, may_grant in like.grants:
        yield sql.SQL("GRANT {} ({}) ON {} TO {}{}").format(
            sql.SQL(privilege), name, table_identifier(table), _role(role), _option(may_grant)
        )


def _role(name: str) -> sql.Composable:
    return sql.Identifier(name) if name else sql.SQL("PUBLIC")


def _option(may_grant: bool) -> sql.Composable:
    return sql.SQL(" WITH GRANT OPTION" if may_grant else "")


def capture_statements(row: CutoverRow, table: TableFacts, key: Sequence[ColumnFacts]) -> Iterator[Statement]:
    """Yield what notes the key of every row that the application writes, also through logical replication."""
    function = sql.Identifier("ragops", row.function)
    is_plain = all(_PLAIN_TYPE.fullmatch(column.stored_type) for column in key)
    yield sql.SQL(_FUNCTION).format(
        function=function,
        settings=sql.SQL("" if is_plain else _TEXT_FORM),
        id=sql.Literal(row.id),
        new=_key("NEW", key),
        old=_key("OLD", key),
    )
    yield sql.SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(function)
    trigger = sql.Identifier(row.trigger)
    yield sql.SQL(_TRIGGER).format(trigger=trigger, table=table_identifier(table), function=function)
    # Otherwise it would not fire for what a subscription applies, nor under session_replication_role = replica.
    yield _alter(table) + sql.SQL("ENABLE ALWAYS TRIGGER {}").format(trigger)


def _key(record: str, key: Sequence[ColumnFacts]) -> sql.Composed:
    """Return the key as text, as `row_relation.key_expression` has it, of a trigger's record."""
    parts = [sql.SQL("{}.{}::text").format(sql.SQL(record), sql.Identifier(column.name)) for column in key]
    return sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(parts))


def release_statements(row: CutoverRow, table: TableFacts) -> Iterator[Statement]:
    """Yield what ends the noting of writes."""
    yield sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(row.trigger), table_identifier(table))
    yield sql.SQL("DROP FUNCTION IF EXISTS {}()").format(sql.Identifier("ragops", row.function))


def drop_column_sql(table: TableFacts, column: str) -> Statement:
    """Drop a column with its indexes. Without CASCADE: whatever else depends on it stops this."""
    return _alter(table) + sql.SQL("DROP COLUMN {}").format(sql.Identifier(column))


def exchange_statements(
    table: TableFacts,
    *,
    name: str,
    aside: str,
    second: str,
    first: Traits,
    second_type: str,
    dependents: Sequence[Dependent] = (),
    indexes: Sequence[IndexRename] = (),
) -> Iterator[Statement]:
    """Yield what gives the column `second` the name of the column `name`, which is called `aside` from then on.

    `first` is what the column `name` is now. Its default moves, and its NOT NULL goes: rows that were inserted
    meanwhile have no vector in the other column yet.
    """
    views = [one for one in dependents if one.kind == "view" and one.view is not None]
    triggers = [one for one in dependents if one.kind == "trigger"]
    is_replaced = not are_views_dropped(views, first.type, second_type)
    if not is_replaced:
        yield from (sql.SQL("DROP VIEW {}").format(sql.SQL(v.name)) for v in sorted(views, key=lambda v: -v.depth))
    for one in triggers:
        yield sql.SQL("DROP TRIGGER {} ON {}").format(sql.SQL(one.name), table_identifier(table))
    for before, after in ((name, aside), (second, name)):
        rename = sql.SQL("RENAME COLUMN {} TO {}").format(sql.Identifier(before), sql.Identifier(after))
        yield _alter(table) + rename
    old, new = sql.Identifier(aside), sql.Identifier(name)
    if first.is_not_null:
        yield _alter(table) + sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(old)
    if first.default is not None:
        yield _alter(table) + sql.SQL("ALTER COLUMN {} DROP DEFAULT").format(old)
        yield _alter(table) + sql.SQL("ALTER COLUMN {} SET DEFAULT {}").format(new, sql.SQL(first.default))
    yield from rename_statements(indexes)
    for one in sorted(views, key=lambda v: v.depth):
        if one.depth == 1 or not is_replaced:
            yield from _view_statements(one, is_replaced=is_replaced)
    for one in dependents:
        if one.kind in ("function", "policy") and one.definition:
            yield sql.Composed([sql.SQL(one.definition)])
    for one in triggers:
        yield sql.Composed([sql.SQL(one.definition or "")])
        if one.what != "O":
            how = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}[one.what]
            yield _alter(table) + sql.SQL("{} TRIGGER {}").format(sql.SQL(how), sql.SQL(one.name))


def are_views_dropped(views: Iterable[Dependent], first_type: str, second_type: str) -> bool:
    """Return whether views must be dropped and made again: the server lets no view's column change its type."""
    return first_type != second_type and any(one.view is not None and one.view.shows_vectors for one in views)


def rename_statements(indexes: Sequence[IndexRename]) -> Iterator[Statement]:
    for one in indexes:
        for before, after in ((one.name, one.aside), (one.second, one.name)):
            yield sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                sql.Identifier(one.schema, before), sql.Identifier(after)
            )


def _view_statements(one: Dependent, *, is_replaced: bool) -> Iterator[Statement]:
    """Yield what makes a view again from its query as it was before the columns were renamed."""
    view = one.view
    assert view is not None and one.definition is not None, "the plan refuses what cannot be made again"
    name = sql.SQL(one.name)
    # The server prints them as NAME=VALUE, without quotes.
    options = [option.partition("=")[::2] for option in view.options]
    yield sql.SQL("CREATE {}VIEW {} ({}){} AS {}").format(
        sql.SQL("OR REPLACE " if is_replaced else ""),
        name,
        sql.SQL(", ").join(map(sql.Identifier, view.columns)),
        sql.SQL(" WITH ({})").format(
            sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.SQL(k), sql.Literal(v)) for k, v in options)
        )
        if options
        else sql.SQL(""),
        sql.SQL(one.definition.strip().rstrip(";")),
    )
    if is_replaced:
        return
    if view.comment is not None:
        yield sql.SQL("COMMENT ON VIEW {} IS {}").format(name, sql.Literal(view.comment))
    for column, comment in view.comments.items():
        yield sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(name, sql.Identifier(column), sql.Literal(comment))
    for role, privilege, may_grant in view.grants:
        yield sql.SQL("GRANT {} ON {} TO {}{}").format(sql.SQL(privilege), name, _role(role), _option(may_grant))
    # Last: whoever gives it away may do nothing with it any more.
    yield sql.SQL("ALTER VIEW {} OWNER TO {}").format(name, sql.Identifier(view.owner))


def not_null_statements(row: CutoverRow, table: TableFacts, column: str) -> tuple[tuple[Statement, ...], ...]:
    """Return what makes a column NOT NULL without a scan under a lock, as three transactions.

    SET NOT NULL believes a valid constraint: https://www.postgresql.org/docs/current/sql-altertable.html
    """
    name, column_name = sql.Identifier(row.check), sql.Identifier(column)
    return (
        (_alter(table) + sql.SQL("ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID").format(name, column_name),),
        (_alter(table) + sql.SQL("VALIDATE CONSTRAINT {}").format(name),),
        (
            _alter(table) + sql.SQL("ALTER COLUMN {} SET NOT NULL").format(column_name),
            _alter(table) + sql.SQL("DROP CONSTRAINT {}").format(name),
        ),
    )


def drop_check_sql(row: CutoverRow, table: TableFacts) -> Statement:
    return _alter(table) + sql.SQL("DROP CONSTRAINT IF EXISTS {}").format(sql.Identifier(row.check))


def lock_view_sql(view: str) -> Statement:
    """LOCK TABLE of a view, by its quoted name; the server locks its tables, too."""
    return sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(view))


def joined(statements: Iterable[Statement]) -> Statement:
    """Return several statements as one query."""
    return sql.SQL(";\n").join(statements)
