"""Parse and check the names of tables and columns as a playbook spells them.

A name is checked here and quoted by `psycopg.sql.Identifier` later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# NAMEDATALEN - 1 of a standard build. PostgreSQL truncates a longer identifier with a mere NOTICE, so
# that two long names may mean one table; ragops refuses it instead.
MAX_IDENTIFIER_BYTES = 63
_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


def check_identifier(name: str) -> str:
    """Return `name` unchanged. Raises ValueError if PostgreSQL could not store it unchanged."""
    if not name:
        raise ValueError("a name must not be empty")
    if "\x00" in name:
        raise ValueError("a name must not contain a NUL character")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError("a name must be text that UTF-8 can encode") from None
    if size > MAX_IDENTIFIER_BYTES:
        raise ValueError(f"a name has at most {MAX_IDENTIFIER_BYTES} bytes, this one has {size}")
    return name


def check_table(text: str) -> str:
    """Return `text` unchanged. Raises ValueError if it does not name a table."""
    TableName.parse(text)
    return text


def quote(name: str) -> str:
    """Return an identifier as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class TableName:
    """A table and, if one is given, its schema (otherwise the search path decides)."""

    schema: str | None
    name: str

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Parse `name`, `schema.name` or quoted forms such as `"my schema"."a.b"`.

        Unlike SQL, an unquoted name keeps its case. Raises ValueError for anything else.
        """
        parts: list[str] = []
        position = 0
        while position < len(text):
            match = _PART.match(text, position)
            if match is None:
                raise ValueError(f"{text!r} is not a table name; write name, schema.name or quote each part")
            quoted, plain = match.groups()
            parts.append(check_identifier(quoted.replace('""', '"') if quoted is not None else plain))
            position = match.end()
            if position < len(text) and text[position] != ".":
                raise ValueError(f"{text!r} is not a table name; write name, schema.name or quote each part")
            position += 1
        if len(parts) not in (1, 2) or text.endswith("."):
            raise ValueError(f"{text!r} is not a table name; write name or schema.name")
        return cls(parts[0] if len(parts) == 2 else None, parts[-1])

    def in_schema(self, schema: str) -> TableName:
        """Return the name with that schema, unless it has one."""
        return self if self.schema else TableName(schema, self.name)

    def quoted(self) -> str:
        """Return the name as `parse` reads it back, whatever characters it has."""
        parts = [part for part in (self.schema, self.name) if part is not None]
        return ".".join(part if _PART.fullmatch(part) and '"' not in part else quote(part) for part in parts)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name
