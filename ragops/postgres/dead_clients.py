"""Let a long transaction end soon after its client died.

A server looks at the connection only when it sends something. An index build whose client was killed first runs to
its end, for hours, and holds the campaign's row meanwhile.
"""

from __future__ import annotations

from typing import Any

import psycopg

from ragops.postgres.statements import statement


def end_with_client(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Have the server check the connection every five seconds until the caller's transaction ends.

    A process that was killed closes its connection. A machine that vanished does not: that it answers no more is
    noticed after about a minute. Some systems (Windows) cannot check: there only the end of the statement tells.
    """
    if not _accepts(connection, "end_with_client"):
        _accepts(connection, "end_with_machine")


def _accepts(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> bool:
    """Change settings behind a savepoint: a server that refuses them must not end the transaction."""
    try:
        with connection.transaction():
            connection.execute(statement("dead_clients", name))
    except psycopg.Error:
        if connection.closed:
            raise
        return False
    return True
