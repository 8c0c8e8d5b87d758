"""Plan a campaign: read everything that decides, rehearse the writes, compose the steps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ragops.campaign.cutover.beside import besides, with_rows_left
from ragops.campaign.plan import Plan, make_plan
from ragops.campaign.preflight import find_table_problems, refuse_problems
from ragops.campaign.rehearsal import look_ahead
from ragops.campaign.row_problems import row_problems
from ragops.campaign.row_rehearsal import row_condition_problems
from ragops.campaign.rows import count_selected
from ragops.campaign.steps.base import PlanFacts
from ragops.campaign.steps.rebuild_indexes import read_journal
from ragops.campaign.steps.reseed_queue import empty_corpus
from ragops.documents.left_out import LeftOut
from ragops.facts import ModelFacts
from ragops.playbook.targets import RowTarget
from ragops.postgres.archive import expected_number
from ragops.postgres.row_selection import expected_archive_number
from ragops.postgres.row_source import read_source
from ragops.postgres.space import read_space
from ragops.row_facts import TargetFacts
from ragops.session import Session
from ragops.workers.sizing import size_fleet


def refuse_unfit_targets(session: Session, facts: PlanFacts) -> None:
    """Raise PlanRefused for targets that cannot be read or written, before their rows are counted."""
    problems = [*row_problems(facts), *row_condition_problems(session.connection, facts)]
    if problems:
        known = find_table_problems(facts.playbook, facts.database, model=facts.model)
        refuse_problems([*known, *problems], where=facts.database.server.database)


def plan_campaign(
    session: Session,
    *,
    model: ModelFacts | None = None,
    items: int | None = None,
    left_out: LeftOut | None = None,
    done: Collection[int] = (),
) -> Plan:
    """Plan the playbook against the database as it is. Raises PlanRefused with every problem.

    `done` are the numbers of steps that an earlier controller finished: what they needed is not asked for again.
    The writes of the others are rehearsed in a transaction that is rolled back.
    """
    steps = session.playbook.steps
    open_verbs = {step.step for number, step in enumerate(steps, start=1) if number not in done}
    embeds = any(step.step == "embed" for step in steps)
    database = session.facts(exact=True)
    tables = [table for table in database.tables.values() if table]
    source = session.playbook.source
    needs_source = bool(open_verbs & {"empty_tables", "reseed_queue"}) and (source.table or source.query)
    # Tables that were emptied already are in no danger any more.
    endangered = tables if "empty_tables" in open_verbs else []
    rows = read_source(session.connection, source, endangered) if needs_source else None
    targets = session.targets(exact=True)
    is_added = "add_column" not in open_verbs
    if not is_added:
        # After an earlier cutover the name of the first column stands for what that campaign wrote.
        targets = tuple(_fresh(session.playbook.targets[one.number - 1], one) for one in targets)
    selected: dict[int, int] = {}
    known = PlanFacts(session.playbook, database, model=model, targets=targets)
    refuse_unfit_targets(session, known)
    if "select_rows" in open_verbs:
        selected = count_selected(session, targets, model=model)
        items = sum(selected.values()) if items is None else items
    facts = PlanFacts(
        playbook=session.playbook,
        database=database,
        journal=read_journal(session.connection),
        next_archive=expected_number(session.connection),
        model=model,
        items=rows.rows if rows and items is None else items,
        left_out=left_out or LeftOut(),
        source=rows,
        space=read_space(session.connection, tables) if "empty_tables" in open_verbs else None,
        sizing=size_fleet(session.playbook) if embeds else None,
        targets=targets,
        besides=tuple(
            (one if is_added else with_rows_left(session, one)).beside
            for one in besides(session, targets, is_added=is_added)
        ),
        selected=selected,
        next_vector_archive=expected_archive_number(session.connection),
    )
    outlook = look_ahead(session, facts, done=done)
    if rows is not None and not rows.rows and not outlook.problems:
        # Known only after the tables have been emptied, it would cost them. Policies that hide all rows are a
        # problem of their own.
        raise empty_corpus(source)
    return make_plan(facts, outlook)


def _fresh(target: RowTarget, facts: TargetFacts) -> TargetFacts:
    return replace(facts, filled=target.filled_column) if target.write == "beside" else facts
