"""Prove a playbook by planning it against the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ragops.errors import DatabaseUnavailable, Interrupted, PlanRefused, RagopsError, first_line
from ragops.findings import PlanProblem
from ragops.postgres.connection import DATABASE_ERRORS, is_lost
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class Proof:
    """What the plan of a playbook has shown."""

    is_planned: bool
    problems: tuple[PlanProblem, ...] = ()
    notes: tuple[str, ...] = ()


def prove(session: Session, *, plan: Callable[[Session], list[str]]) -> Proof:
    """Plan the session's playbook, and return what stands in its way. `plan` returns the plan's notes.

    Without a model only the tables, keys and columns are looked at. Raises DatabaseUnavailable.
    """
    playbook = session.playbook
    try:
        if playbook.model.file is None:
            if playbook.targets:
                session.through_outages(lambda: session.targets())
            return Proof(False)
        return Proof(True, notes=tuple(plan(session)))
    except PlanRefused as refused:
        return Proof(True, problems=refused.problems or (_problem(refused),))
    except (DatabaseUnavailable, Interrupted):
        raise
    except RagopsError as error:
        return Proof(True, problems=(_problem(error),))
    except DATABASE_ERRORS as error:
        # What the server refuses while planning stands in the campaign's way, too.
        if is_lost(session.connection):
            raise
        return Proof(
            True, problems=(PlanProblem(f"the server refuses a statement of the plan: {first_line(error)}"),)
        )


def _problem(error: RagopsError) -> PlanProblem:
    told = f"{error.what}: {error.actual}" if error.actual else error.what
    return PlanProblem(told, error.hint or "")
