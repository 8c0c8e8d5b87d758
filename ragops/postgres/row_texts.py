"""Fetch the texts of rows that stay, by their keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import psycopg
from psycopg import sql

from ragops.errors import RagopsError, first_line
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.row_relation import target_of
from ragops.postgres.row_source import GONE, Row, pin_text_form
from ragops.postgres.row_work import RowWork, matching
from ragops.postgres.statements import Statement, statement


class TargetTexts:
    """Fetches the texts of claimed rows of the targets."""

    def __init__(self, work: RowWork) -> None:
        self._work = work

    def fetch(self, connection: Connection, locations: Sequence[str], *, most_bytes: int) -> dict[str, Row]:
        """Return rows by location, those that still exist and belong to their target; without its text each one of
        more than `most_bytes`.

        Raises RagopsError for a table or column that is gone.
        """
        wanted: dict[int, list[str]] = defaultdict(list)
        for location in locations:
            wanted[target_of(location)].append(location)
        found: dict[str, Row] = {}
        for number, own in sorted(wanted.items()):
            values = {"locations": own, "most_bytes": most_bytes}
            try:
                with transaction(connection, is_long=True):
                    pin_text_form(connection)
                    connection.execute(statement("rows", "plan_by_key"))
                    rows = connection.execute(self._query(number), values).fetchall()
            except psycopg.Error as error:
                if error.sqlstate not in GONE:
                    raise
                raise self._gone(number, error) from error
            found |= {location: Row(text, size, version) for location, text, size, version in rows}
        return found

    def _query(self, number: int) -> Statement:
        facts = self._work.facts[number - 1]
        words = self._work.words(number)
        # Nobody else writes a column beside.
        version: sql.Composable = sql.SQL("NULL::bytea")
        if facts.filled == facts.embedding:
            version = statement("rows", "version", words)
        own = {
            "match": matching(facts, "w"),
            "version": version,
        }
        return statement("rows", "texts", {**words, **own})

    def _gone(self, number: int, error: psycopg.Error) -> RagopsError:
        return RagopsError(
            "a target cannot be read any more; no row was failed for it",
            where=self._work.facts[number - 1].table.quoted,
            actual=first_line(error),
            expected="the table and columns that the rows were queued from",
            hint="restore it, then run the same command again, a campaign with: ragops reset --resume",
        )
