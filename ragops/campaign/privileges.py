"""Privileges that the role lacks for what a playbook's steps will do: known before anything is wiped."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.facts import DatabaseFacts, TableFacts, quoted
from ragops.findings import PlanProblem

QUEUE = "files_queue"


def privilege_problems(facts: DatabaseFacts, logical: str, *privileges: str) -> Iterator[PlanProblem]:
    """Yield a problem for each privilege on a table that the role lacks; none where the table does not exist.

    `privileges` are SQL's words, and OWN (own the table), CREATE (in its schema), COPY (no row-level
    security applies to the role).
    """
    table = facts.tables.get(logical)
    if table is not None:
        yield from table_privilege_problems(table, facts.server.role, *privileges)


def table_privilege_problems(table: TableFacts, role: str, *privileges: str) -> Iterator[PlanProblem]:
    """Yield a problem for each privilege on a table that the role lacks, as `privilege_problems` does."""
    for privilege in privileges:
        if privilege not in table.privileges:
            yield _problem(table, privilege, role)


def _problem(table: TableFacts, privilege: str, role: str) -> PlanProblem:
    name, to = quoted(table.schema, table.name), quoted(role)
    if privilege == "OWN":
        return PlanProblem(
            f"role {role} does not own {table.quoted}, so it can neither drop nor build its indexes "
            "(or run ragops as its owner)",
            f"ALTER TABLE {name} OWNER TO {to}",
        )
    if privilege == "USAGE":
        return PlanProblem(
            f"role {role} lacks USAGE on schema {quoted(table.schema)}, without which it can read nothing in it",
            f"GRANT USAGE ON SCHEMA {quoted(table.schema)} TO {to}",
        )
    if privilege == "CREATE":
        return PlanProblem(
            f"role {role} lacks CREATE on schema {quoted(table.schema)}, which an index needs",
            f"GRANT CREATE ON SCHEMA {quoted(table.schema)} TO {to}",
        )
    if privilege == "COPY":
        return PlanProblem(
            f"row-level security of {table.quoted} applies to role {role}, and COPY does not work with that "
            "(or run ragops as the table's owner)",
            f"ALTER ROLE {to} BYPASSRLS",
        )
    return PlanProblem(
        f"role {role} lacks {privilege} on {table.quoted}",
        f"GRANT {privilege} ON {name} TO {to}",
    )
