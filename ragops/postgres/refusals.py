"""Tell what the server refuses about a row, which fails alone, from what no row is to blame for."""

from __future__ import annotations

import re

import psycopg

from ragops.errors import RagopsError, first_line

# Classes of SQLSTATE that say something about the session, the server, the statement or the tables
# (https://www.postgresql.org/docs/current/errcodes-appendix.html). The others are about what a row holds: data
# (22), constraints (23, 27, 44), limits (54: an index row or a tsvector that is too long), PL/pgSQL (20, 21, P0)
# and functions (09, 2F, 38, 39). A class that is not in that list was invented by a trigger, for the row it saw.
_NOT_ABOUT_A_ROW = re.compile(r"0[01238ABFLPZ]|2[4568BD]|3[4BDF]|4[02]|5[3578]|72|F0|HV|XX")
# In a class of the other kind: a COPY whose format is wrong, and a text that is too long for the type `name`.
_EXCEPTIONS = {"22P03": False, "22P04": False, "42622": True}
# `COPY documents, line 3, column file_path: "…"`, whatever the language of the server's messages.
_COPIED = re.compile(r"COPY (?P<table>.+), \S+ \d+, \S+ (?P<column>[^:]+)")


class ValueRefused(RagopsError):
    """A value that its column cannot hold, found before anything was sent to the server."""


def refusal_of(error: BaseException) -> str | None:
    """Return the server's reason for refusing a row, in one line; None if the error is not about a row.

    For psycopg a limit is an OperationalError as a full disk is, so only SQLSTATE tells the two apart.
    """
    if isinstance(error, ValueRefused):
        return f"{error.where} holds {error.expected}, not {error.actual}"
    if isinstance(error, UnicodeError):  # a lone surrogate
        return first_line(error)
    if not isinstance(error, psycopg.Error):
        return None
    if error.sqlstate is None:
        # psycopg's own: a value that it cannot send, such as a text with a NUL.
        return first_line(error) if isinstance(error, psycopg.DataError) else None
    if not _EXCEPTIONS.get(error.sqlstate, _NOT_ABOUT_A_ROW.match(error.sqlstate) is None):
        return None
    return _reason(error)


def _reason(error: psycopg.Error) -> str:
    """Return the first line of the server's message, with the constraint or column that it leaves out."""
    reason, about = error.diag.message_primary or first_line(error), error.diag
    reason = reason.splitlines()[0] if reason else first_line(error)
    if about.constraint_name:
        place = f"constraint {about.constraint_name}"
        return reason if about.constraint_name in reason else f"{reason} ({place})"
    copied = _COPIED.match(about.context or "")
    column = about.column_name or (copied["column"].splitlines()[0] if copied else None)
    table = about.table_name or (copied["table"] if copied else None)
    return reason if column is None or column in reason else f"{reason} (column {table}.{column})"
