"""Propose the texts that vectors may have been made from: columns, pairs of them, keys of JSON, known layouts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ragops.facts import ColumnFacts, TableFacts, quoted
from ragops.postgres.statements import literal
from ragops.postgres.stored_texts import JSON_TYPES

# What stands between two parts. Most tokenizers of encoders see no difference between the first three.
SEPARATORS = ("\n\n", "\n", " ", ": ")
# Columns that pairs are made of, and keys of a JSON column: every candidate is embedded for a dozen rows.
MOST_PAIRED, MOST_KEYS = 4, 6
_TEXT = re.compile(r"(?:text|character varying(?:\(\d+\))?|character(?:\(\d+\))?|\"?citext\"?|.*\.citext|name)")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
# Column names that hold no text that anyone embeds, whatever their type.
_IDENTIFIERS = re.compile(r"(?:.*_)?(?:id|uuid|hash|sha256|md5|checksum|url|uri|mime_?type|etag)", re.IGNORECASE)

# First values of columns, as text: one mapping a row.
Samples = Sequence[Mapping[str, str | None]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that vectors may have been made from, as `targets[].text` or `targets[].sql` takes it."""

    label: str
    text: str | None = None
    """Template."""
    sql: str | None = None
    """Expression over the columns; one of the two is set."""

    def to_json(self) -> dict[str, object]:
        return {"label": self.label, "text": self.text, "sql": self.sql}


def template(*parts: str, separator: str = "") -> Candidate:
    """Return the candidate of columns with a separator between them."""
    label = f" {json.dumps(separator)} ".join(parts) if separator else parts[0]
    braced = ["{" + part + "}" for part in parts]
    if not all(part.isidentifier() for part in parts):
        # In a template `.`, `!`, `:` and brackets within braces would mean something else.
        return expression(label, _joined(list(map(quoted, parts)), separator))
    return Candidate(label, text=separator.join(braced))


def expression(label: str, sql: str) -> Candidate:
    """Return the candidate of an SQL expression."""
    return Candidate(label, sql=sql)


def text_columns(table: TableFacts) -> list[ColumnFacts]:
    """Return the columns of types that hold text, in their order."""
    return [column for column in table.columns.values() if _TEXT.fullmatch(column.stored_type)]


def json_columns(table: TableFacts) -> list[ColumnFacts]:
    """Return the columns of the types json and jsonb, in their order."""
    return [column for column in table.columns.values() if column.stored_type in JSON_TYPES]


def candidates_of(table: TableFacts, samples: Samples = ()) -> tuple[Candidate, ...]:
    """Return the texts to try, the likelier and simpler ones first; of equal vectors the first is named.

    `samples` are values of some rows (`sample_values`): they tell prose from identifiers, and the keys of JSON.
    """
    texts = [column.name for column in text_columns(table)]
    prose = sorted((name for name in texts if _is_prose(name, samples)), key=lambda name: -_length(name, samples))
    main = [name for name in texts if name in prose[:MOST_PAIRED]]
    others = [name for name in texts if name not in prose and not _is_key(name, samples)]
    found = [template(name) for name in prose]
    found += [
        template(first, second, separator=separator)
        for separator in SEPARATORS
        for place, first in enumerate(main)
        for second in main[place + 1 :]
    ]
    for column in json_columns(table):
        found += _of_json(column.name, main[:2] if len(main) < 3 else prose[:2], samples)
    return tuple(dict.fromkeys([*found, *(template(name) for name in others)]))


def _of_json(column: str, texts: Sequence[str], samples: Samples) -> Iterator[Candidate]:
    """Yield the texts among the keys of a JSON column, and its metadata before each text column."""
    keys = _json_keys(column, samples)
    inner = [key for key, is_prose in keys.items() if is_prose][:MOST_KEYS]
    for key in inner:
        yield expression(f"{column} {key}", f"{quoted(column)}->>{literal(key)}")
    for text in texts:
        for key in inner:
            for separator in SEPARATORS[:2]:
                parts = [f"{quoted(column)}->>{literal(key)}", quoted(text)]
                yield expression(f"{column} {key} {json.dumps(separator)} {text}", _joined(parts, separator))
        if "_node_content" in keys:
            yield expression(f"LlamaIndex's metadata and {text}", llama_index_text(column, text))
        if keys:
            lines = _lines_and_text(_lines(quoted(column)), quoted(text))
            yield expression(f"lines of {column} and {text}", lines)


def llama_index_text(column: str, text: str) -> str:
    """Return the SQL of what LlamaIndex embeds of a node: its metadata as lines, without the excluded keys.

    Its defaults: `{key}: {value}`, a line each, and an empty line before the text. The node with its metadata in
    their order and the excluded keys stands in `_node_content`.
    """
    node = f"({quoted(column)}->>'_node_content')::json"
    kept = f"NOT coalesce((({node}->'excluded_embed_metadata_keys')::jsonb ? e.key), false)"
    return _lines_and_text(_lines(f"{node}->'metadata'", f"WHERE {kept}"), quoted(text))


def _lines(json_value: str, where: str = "") -> str:
    """Return the SQL of the keys and values of a JSON object, a line each, as Python writes the values."""
    value = (
        "CASE json_typeof(e.value) WHEN 'boolean' THEN initcap(e.value::text) WHEN 'null' THEN 'None' "
        "ELSE e.value #>> '{}' END"
    )
    where = where or "WHERE left(e.key, 1) <> '_'"
    return (
        f"(SELECT string_agg(e.key || ': ' || {value}, E'\\n' ORDER BY e.n) "
        f"FROM json_each(({json_value})::json) WITH ORDINALITY AS e (key, value, n) {where})"
    )


def _lines_and_text(lines: str, text: str) -> str:
    return f"coalesce({lines} || E'\\n\\n', '') || coalesce({text}::text, '')"


def _joined(parts: Sequence[str], separator: str) -> str:
    if len(parts) == 1:
        return parts[0]
    between = " || " + (f"{_escaped(separator)} || " if separator else "")
    return between.join(f"coalesce(({part})::text, '')" for part in parts)


def _escaped(separator: str) -> str:
    """Return a separator as SQL that people read: with \\n instead of a line break."""
    return "E'" + separator.replace("\n", "\\n") + "'" if "\n" in separator else literal(separator)


def _values(column: str, samples: Samples) -> list[str]:
    return [value for row in samples if (value := row.get(column))]


def _is_prose(column: str, samples: Samples) -> bool:
    """Return whether a column seems to hold text; without samples, by its name alone."""
    values = _values(column, samples)
    if not values:
        return _IDENTIFIERS.fullmatch(column) is None
    return sum(_reads_as_prose(value) for value in values) * 2 >= len(values)


def _reads_as_prose(value: str) -> bool:
    # A text of one word may be a title; a path, an address and a hash are long words.
    return " " in value.strip() or any(ord(letter) > 0x2E80 for letter in value)


def _is_key(column: str, samples: Samples) -> bool:
    """Return whether a column holds identifiers."""
    values = _values(column, samples)
    if values and all(_UUID.fullmatch(value) for value in values):
        return True
    return _IDENTIFIERS.fullmatch(column) is not None


def _length(column: str, samples: Samples) -> float:
    values = _values(column, samples)
    return sum(map(len, values)) / len(values) if values else 0.0


def _json_keys(column: str, samples: Samples) -> dict[str, bool]:
    """Return the keys of the sampled objects in their order, and whether their values read as text."""
    keys: dict[str, list[bool]] = {}
    for value in _values(column, samples):
        try:
            parsed = json.loads(value)
        except ValueError:
            continue
        if isinstance(parsed, dict):
            for key, inner in parsed.items():
                is_text = isinstance(inner, str) and not key.startswith("_") and _reads_as_prose(inner)
                keys.setdefault(key, []).append(is_text)
    return {key: sum(found) * 2 >= len(found) for key, found in keys.items()}
