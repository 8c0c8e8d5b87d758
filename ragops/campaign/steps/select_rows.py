"""select_rows: queue the rows of the targets that are to be embedded, with the phases that make gates exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ragops.campaign.rows import selection_of, targets_as_json
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.findings import PlanProblem
from ragops.playbook.model import Playbook
from ragops.playbook.steps import SelectRows
from ragops.postgres.filling import record_filling
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.row_selection import Selection, create_archive_statement, next_archive_numbers
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.row_work import RowFilling, register_archive, target_id
from ragops.postgres.statements import Statement, statement, text_of
from ragops.row_facts import TargetFacts


@dataclass(frozen=True, slots=True)
class SelectRowsResult:
    seeded: int
    by_target: Mapping[str, int]
    gates: tuple[int, ...]
    archives: tuple[str, ...]
    """The tables in the schema `ragops` that keep what is replaced."""
    sql: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "seeded": self.seeded,
            "by_target": dict(self.by_target),
            "gates": list(self.gates),
            "archives": list(self.archives),
            "sql": list(self.sql),
        }


@dataclass(frozen=True, slots=True)
class SelectRowsStep:
    settings: SelectRows

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        yield from ()

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        server, playbook = facts.database.server, facts.playbook
        dimensions = facts.model.dimensions if facts.model else playbook.model.dimensions
        if dimensions is None:
            dimensions = next((one.dimensions for one in facts.targets if one.dimensions), None)
        selection = Selection(self.settings, playbook.targets, facts.targets, server.vector_schema, dimensions)
        first = facts.next_vector_archive
        archives = _archives(facts.targets, range(first, first + len(facts.targets)))
        tables = ", ".join(dict.fromkeys(one.table.quoted for one in facts.targets))
        return PlannedStep(
            number,
            self.settings.step,
            f"queue the rows of {tables}: {', '.join(self.settings.rows)}",
            self.settings,
            statements=tuple(_statements(selection, archives, playbook.gates())),
            rows=sum(facts.selected.values()) if facts.selected else None,
            tables=tuple(one.table.qualified for one in facts.targets),
            notes=tuple(
                f"{one.table.quoted}.{one.embedding}: {facts.selected[one.number]:,} of {one.table.rows:,} rows"
                for one in facts.targets
                if one.number in facts.selected
            ),
        )

    def run(self, run: Run) -> SelectRowsResult:
        """Queue the rows, and make the tables that keep what is replaced, in one transaction."""
        session = run.session
        targets, playbook = session.targets(), session.playbook
        selection = selection_of(session, self.settings, targets)

        def act() -> SelectRowsResult:
            connection = session.connection
            with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
                pin_text_form(connection)
                ids = [target_id(connection, one) for one in targets]
                archives = _archives(targets, next_archive_numbers(connection, len(targets)))
                statements = list(_statements(selection, archives, playbook.gates()))
                for composed in statements:
                    seeded = connection.execute(composed).rowcount
                for one, id, name in zip(targets, ids, archives, strict=True):
                    if name is not None:
                        register_archive(connection, campaign=run.campaign, target=id, archive=name, of=one.table)
                filling = RowFilling(
                    targets=tuple(targets_as_json(session)),
                    rows=self.settings.rows,
                    max_distance=_max_distance(playbook, self.settings),
                    ids=tuple(ids),
                    archives=tuple(archives),
                )
                record_filling(connection, playbook.tables, filling.to_json())
                result = SelectRowsResult(
                    seeded=seeded,
                    by_target=_by_target(run, targets),
                    gates=playbook.gates(),
                    archives=tuple(filter(None, archives)),
                    sql=tuple(map(text_of, statements)),
                )
                run.record(result)
            return result

        work = session.facts(scans=False).tables["files_queue"]
        tables = [work] if work is not None else []
        result = with_lock_retries(session.connection, act, tables=tables, reporter=session.reporter)
        session.queue.analyze()
        return result


def _max_distance(playbook: Playbook, settings: SelectRows) -> float | None:
    """Return how near a vector must be to stay; None if every selected row is written."""
    if "divergent" not in settings.rows:
        return None
    return settings.max_distance or playbook.validation.max_distance


def _archives(targets: Sequence[TargetFacts], numbers: Sequence[int]) -> list[str | None]:
    """Return the name of the archive of each target; None for one that is written beside."""
    pairs = zip(targets, numbers, strict=True)
    return [f"vectors_{number}" if one.filled == one.embedding else None for one, number in pairs]


def _statements(selection: Selection, archives: Sequence[str | None], gates: Sequence[int]) -> Iterator[Statement]:
    """Yield the statements in their order; the last one queues the rows."""
    yield statement("rows", "clear_work")
    for target, facts, archive in zip(selection.targets, selection.facts, archives, strict=True):
        if archive is not None:
            yield create_archive_statement(archive, target, facts, selection.vector_schema)
    yield selection.fill_statement(gates)


def _by_target(run: Run, targets: Sequence[TargetFacts]) -> dict[str, int]:
    """Return the queued rows by target, as `schema.table.column`."""
    found = run.session.queue.counts_by_target()
    return {f"{one.table.quoted}.{one.embedding}": found.get(one.number, 0) for one in targets}
