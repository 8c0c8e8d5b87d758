"""Rows that stay: which of them a campaign selects, and what the items of `ragops.work` belong to."""

from __future__ import annotations

from collections.abc import Sequence

from ragops.errors import RagopsError
from ragops.facts import ModelFacts
from ragops.playbook.steps import SelectRows
from ragops.postgres.catalog import has_ragops_schema
from ragops.postgres.connection import transaction
from ragops.postgres.filling import Filling
from ragops.postgres.row_selection import Selection
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.row_work import RowFilling, RowWork
from ragops.postgres.vector_type import vector_schema
from ragops.row_facts import TargetFacts
from ragops.session import Session


def selection_of(
    session: Session, settings: SelectRows, facts: Sequence[TargetFacts], *, model: ModelFacts | None = None
) -> Selection:
    """Return what `select_rows` queues; the model is started where only it knows its dimensions."""
    connection, own = session.connection, session.playbook.model
    dimensions = model.dimensions if model else own.dimensions
    if dimensions is None and "broken" in settings.rows:
        declared = {one.dimensions for one in facts}
        dimensions = next(iter(declared)) if len(declared) == 1 else None
        if dimensions is None:
            dimensions = session.with_embedder(lambda embedder: embedder.model.dimensions)
    return Selection(
        settings,
        session.playbook.targets,
        tuple(facts),
        vector_schema(connection),
        dimensions,
        is_tracked=has_ragops_schema(connection),
    )


def count_selected(
    session: Session, facts: Sequence[TargetFacts], *, model: ModelFacts | None = None
) -> dict[int, int]:
    """Return by target how many rows the playbook's `select_rows` would queue now."""
    settings = next((step for step in session.playbook.steps if isinstance(step, SelectRows)), None)
    if settings is None or not facts:
        return {}
    selection = selection_of(session, settings, facts, model=model)
    with transaction(session.connection, is_long=True):
        pin_text_form(session.connection)
        return selection.count(session.connection)


def targets_as_json(session: Session) -> list[dict[str, object]]:
    """Return the playbook's targets as the filling of the queue records them."""
    return [target.model_dump(mode="json") for target in session.playbook.targets]


def work_of(session: Session, filling: Filling) -> RowWork | None:
    """Return what the queue's items belong to; None for a playbook without targets.

    Raises RagopsError if the queue holds rows of other targets than the playbook's.
    """
    if not session.playbook.targets:
        return None
    recorded = RowFilling.parse(filling.source)
    given = targets_as_json(session)
    if recorded is None:
        recorded = RowFilling(targets=tuple(given), rows=())
    elif [dict(target) for target in recorded.targets] != given:
        raise RagopsError(
            "the queue holds rows of other targets than this playbook's; nothing was claimed",
            where=f"{filling.queue}, generation {filling.generation}",
            actual=", ".join(f"{target.get('table')}.{target.get('embedding')}" for target in recorded.targets),
            expected=", ".join(f"{target.table}.{target.embedding}" for target in session.playbook.targets),
            hint="the same command with the playbook of the last campaign: --playbook FILE",
        )
    return RowWork(
        session.playbook.targets, session.targets(), recorded, vector_schema(session.connection) or "public"
    )
