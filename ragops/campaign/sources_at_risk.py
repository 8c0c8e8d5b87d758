"""Find the sources that still need the rows which a single command would empty."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ragops.campaign.steps.base import PlanFacts
from ragops.campaign.steps.emptying import source_problems
from ragops.errors import PlanRefused
from ragops.facts import DatabaseFacts
from ragops.findings import PlanProblem
from ragops.playbook.model import Source
from ragops.playbook.steps import EmptyTables
from ragops.postgres.ledger import CampaignRow
from ragops.postgres.row_source import read_tables
from ragops.session import Session


def sources_at_risk(
    session: Session, facts: DatabaseFacts, settings: EmptyTables, campaign: CampaignRow | None
) -> Iterator[PlanProblem]:
    """Yield the emptied tables that a source reads: the playbook's, the queue's, an unfinished campaign's."""
    tables = [table for table in facts.tables.values() if table]
    for source in _sources(session, campaign):
        try:
            read = read_tables(session.connection, source, tables)
        except PlanRefused:
            # It reads nothing that is there.
            continue
        playbook = session.playbook.model_copy(update={"source": source})
        yield from source_problems(PlanFacts(playbook, facts, source=read), settings)


def _sources(session: Session, campaign: CampaignRow | None) -> list[Source]:
    stored = [session.queue.load_source()]
    if campaign is not None and not campaign.is_finished:
        stored.append(campaign.playbook.get("source"))
    found = [session.playbook.source, *(source for one in stored if (source := _parsed(one)))]
    rows = {(source.table, source.query): source for source in found if source.table or source.query}
    return list(rows.values())


def _parsed(stored: Mapping[str, object] | None) -> Source | None:
    try:
        return Source.model_validate_json(json.dumps(stored)) if stored else None
    except ValueError:
        # Of another version of ragops.
        return None
