"""Write values as YAML that the loader reads back as they are."""

from __future__ import annotations

import re

from ragops.errors import UsageError

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
# Plain words that YAML takes for something else than text.
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"}
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?\}")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def scalar(value: str) -> str:
    """Return a text on one line: plain where YAML reads it as the same text, else in quotes.

    Raises UsageError for a text that a playbook cannot hold.
    """
    if _VARIABLE.search(value):
        raise UsageError(
            "a playbook cannot hold this text: it would be taken for a variable",
            actual=value,
            expected="no ${NAME} in a table, column, text or condition",
            hint="write it in another way, e.g. '$' || '{' in SQL",
        )
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if '"' in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    return '"' + "".join(map(_escaped, value)) + '"'


def block(value: str, *, indent: int) -> str:
    """Return a text of several lines as a literal block, which people can read; else as `scalar`."""
    lines = value.split("\n")
    is_safe = (
        len(lines) > 1
        and all(line == line.rstrip() and line.isprintable() for line in lines)
        and all(lines[:1] + lines[-1:])
        and not lines[0].startswith(" ")
        and not _VARIABLE.search(value)
    )
    if not is_safe:
        return scalar(value)
    margin = " " * indent
    return "|-\n" + "\n".join(margin + line if line else "" for line in lines)


def comment(text: str, *, indent: int = 0, width: int = 112) -> str:
    """Return a text as lines of comment."""
    margin = " " * indent + "# "
    lines: list[str] = []
    for word in "".join(c if c.isprintable() else " " for c in text).split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(margin + word)
    return "\n".join(lines)


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
