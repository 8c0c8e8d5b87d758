"""Find rows whose vectors an exchange of columns would take from the application: those outside of a condition."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.campaign.row_problems import column_of
from ragops.campaign.steps.base import PlanFacts
from ragops.findings import PlanProblem
from ragops.postgres.connection import Connection
from ragops.postgres.cutover_columns import count_left_out


def left_out_problems(connection: Connection, facts: PlanFacts) -> Iterator[PlanProblem]:
    """Yield every target that is written beside and whose `where` leaves out rows that have a vector.

    Columns are exchanged whole: such a row would have none afterwards, and `finish` would drop its own.
    """
    for found in facts.targets:
        target = facts.playbook.targets[found.number - 1]
        if target.write != "beside" or target.where is None:
            continue
        count = count_left_out(connection, target, found)
        if count:
            yield PlanProblem(
                f"{count:,} rows of {found.table.quoted} have a vector and do not belong to "
                f"targets[{found.number - 1}] (where: {target.where}): once {column_of(found)} is exchanged, the "
                "application would find none of them. Write this part `in_place`, or let the target have every row"
            )
