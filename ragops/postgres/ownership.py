"""Check who owns the schema `ragops`: its rows say what a campaign reads, runs and restores."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict

from ragops.errors import PlanRefused
from ragops.findings import PlanProblem
from ragops.postgres.connection import Connection, Target
from ragops.postgres.statements import statement


def check_owners(connection: Connection) -> None:
    """Raise PlanRefused if a stranger owns the schema `ragops` or something in it.

    Whoever owns a table can rewrite its rows at any time, put triggers on it, or have made it in advance.
    """
    strangers = connection.execute(statement("ownership", "foreign_owners")).fetchall()
    if not strangers:
        return
    me = strangers[0][3]
    raise PlanRefused(
        "the schema ragops belongs to a role that could misuse yours; nothing was changed",
        expected=f"owned by {me}, a role that {me} is a member of, the database's owner or a superuser",
        hint="if that role is yours, run the SQL above as it or as a superuser",
        problems=[
            PlanProblem(f"{kind.lower()} {name} is owned by {owner}", f"ALTER {kind} {name} OWNER TO {me};")
            for kind, name, owner, me in strangers
        ],
    )


def database_identity(target: Target, connection: Connection) -> str:
    """Return host, port and name of a database as this machine addresses it; no role, no password.

    Nothing that the server says is part of it: a server can claim to be any other.
    """
    if target.is_embedded:
        return target.label
    given, info = conninfo_to_dict(target.conninfo), connection.info
    host = given.get("host") or given.get("hostaddr") or info.host
    return f"{host}:{given.get('port') or info.port}/{info.dbname}"
