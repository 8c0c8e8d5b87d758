"""Privileges that the role lacks for what a playbook's steps will do: known before anything is wiped."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.facts import DatabaseFacts, TableFacts, quoted

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
            f"role {role} does not own {table.quoted}, so it can neither drop nor build its indexes: "
            f"ALTER TABLE {table.quoted} OWNER TO {quoted(role)}, or run ragops as its owner"
        )
    if privilege == "USAGE":
        return (
            f"role {role} lacks USAGE on schema {quoted(table.schema)}, without which it can read nothing in it: "
            f"GRANT USAGE ON SCHEMA {quoted(table.schema)} TO {quoted(role)}"
        )
    if privilege == "CREATE":
        return (
            f"role {role} lacks CREATE on schema {quoted(table.schema)}, which an index needs: "
            f"GRANT CREATE ON SCHEMA {quoted(table.schema)} TO {quoted(role)}"
        )
    if privilege == "COPY":
        return (
            f"row-level security of {table.quoted} applies to role {role}, and COPY does not work with that: "
            "run ragops as a role with BYPASSRLS, or as the table's owner"
        )
    return (
        f"role {role} lacks {privilege} on {table.quoted}: "
        f"GRANT {privilege} ON {table.quoted} TO {quoted(role)}, or run ragops as its owner"
    )
