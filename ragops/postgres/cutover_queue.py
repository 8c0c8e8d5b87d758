"""Move noted rows into `ragops.work`, and every other row whose vector is not of its present text."""

from __future__ import annotations

from psycopg import sql

from ragops.beside_facts import CutoverRow
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, set_parameter_sql
from ragops.postgres.cutovers import keep_since
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.row_work import matching, row_words
from ragops.postgres.statements import statement
from ragops.postgres.vector_type import vector_schema
from ragops.row_facts import TargetFacts


class RowDrain:
    """Collects the rows of targets that need an item, in one transaction of the caller, and queues them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._schema = vector_schema(connection)
        self.cleared = 0
        """Rows without a text that lost their vector."""
        pin_text_form(connection)
        connection.execute(statement("cutover", "create_taken"))
        connection.execute(statement("cutover", "create_drained"))
        # `ragops.writes` keeps the trigger from noting what is cleared here.
        connection.execute(statement("rows", "plan_by_key"))

    def take(self, row: CutoverRow, target: RowTarget, facts: TargetFacts) -> int:
        """Collect the noted rows of one target; return the number of noted keys.

        After a cutover an application that embeds with the old model writes into the new column: each noted row is
        embedded, whatever its text, and its key is kept for a rollback.
        """
        keep_since(self._connection, row)
        words = self._words(row, target, facts) | {"always": sql.Literal(row.was_swapped)}
        values = {"id": row.id, "bound": row.bound if row.is_swapped else None, "number": facts.number}
        taken = self._connection.execute(statement("cutover", "take_captured"), values).rowcount
        if taken:
            self.cleared += self._clear("clear_textless", words, facts)
            self._connection.execute(statement("cutover", "needing", words))
        return taken

    def sweep(self, row: CutoverRow, target: RowTarget, facts: TargetFacts) -> int:
        """Collect all rows of one target whose vector is not of their text; return their number."""
        words = self._words(row, target, facts)
        self._connection.execute(statement("cutover", "plan_as_usual"))
        self.cleared += self._clear("clear_all_textless", words, facts)
        return self._connection.execute(statement("cutover", "sweep", words)).rowcount

    def queue(self, *, phase: int) -> int:
        """Queue what was collected, each row once; return the number of items that are opened."""
        words = {"phase": sql.Literal(phase)}
        self._connection.execute(statement("cutover", "plan_as_usual"))
        opened = self._connection.execute(statement("cutover", "reopen", words)).rowcount
        return opened + self._connection.execute(statement("cutover", "queue", words)).rowcount

    def _clear(self, name: str, words: dict[str, sql.Composable], facts: TargetFacts) -> int:
        """Remove vectors of rows without a text; the application's triggers fire or not as the target says."""
        if facts.silences_triggers:
            self._connection.execute(set_parameter_sql("session_replication_role", "replica"))
        cleared = self._connection.execute(statement("cutover", name, words)).rowcount
        if facts.silences_triggers:
            self._connection.execute(set_parameter_sql("session_replication_role", "origin"))
        return cleared

    def _words(self, row: CutoverRow, target: RowTarget, facts: TargetFacts) -> dict[str, sql.Composable]:
        words = row_words(target, facts, self._schema)
        return {**words, "match": matching(facts, "w"), "target": sql.Literal(row.target)}
