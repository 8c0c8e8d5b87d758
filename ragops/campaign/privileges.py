"""Privileges that the role lacks for what a playbook's steps will do: known before anything is wiped."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.facts import DatabaseFacts, TableFacts

QUEUE = "files_queue"


def privilege_problems(facts: DatabaseFacts, logical: str, *privileges: str) -> Iterator[str]:
    """Yield a problem for each privilege on a table that the role lacks; none where the table does not exist.

    `privileges` are SQL's words, and OWN (own the table), CREATE (in its schema), COPY (no row-level
    security applies to the role).
    """
    table = facts.tables.get(logical)
    if table is not None:
        for privilege in privileges:
            if privilege not in table.privileges:
                yield _problem(table, privilege, facts.server.role)


def _problem(table: TableFacts, privilege: str, role: str) -> str:
    if privilege == "OWN":
        return (
            f"role {role} does not own {table.qualified}, so it can neither drop nor build its indexes: "
            f"ALTER TABLE {table.qualified} OWNER TO {role}, or run ragops as its owner"
        )
    if privilege == "CREATE":
        return (
            f"role {role} lacks CREATE on schema {table.schema}, which an index needs: "
            f"GRANT CREATE ON SCHEMA {table.schema} TO {role}"
        )
    if privilege == "COPY":
        return (
            f"row-level security of {table.qualified} applies to role {role}, and COPY does not work with that: "
            "run ragops as a role with BYPASSRLS, or as the table's owner"
        )
    return (
        f"role {role} lacks {privilege} on {table.qualified}: "
        f"GRANT {privilege} ON {table.qualified} TO {role}, or run ragops as its owner"
    )
