"""Read and rewrite definitions of indexes as `pg_get_indexdef` prints them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ragops.facts import READABLE_TYPE, ColumnFacts, TableFacts, quoted
from ragops.indexes.resources import Graph, Lists

# What `pg_get_indexdef` prints: the method, the key, its operator class, a type with its dimensions, the options.
_METHOD_AND_KEY = re.compile(r" USING (hnsw|ivfflat) \((.*?)(?:\) WITH \(|\) WHERE |\)$)")
_CLASS = re.compile(r"\b(vector|halfvec|bit)_[a-z0-9]+_ops$")
_CLASS_SCHEMA = re.compile(r"\b\w+\.(?=(?:vector|halfvec|bit|sparsevec)_\w+_ops\b)")
_TYPE = re.compile(r"\b(?:vector|halfvec|bit)\((\d+)\)")
_M = re.compile(r"[( ]m='(\d+)'")
_LISTS = re.compile(r"[( ]lists='(\d+)'")
_PREDICATE = re.compile(r"\) WHERE ")
# A literal, a quoted name, a plain name, a number, `::`, or one other character.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[^\W\d][\w$]*|\d+|::|.", re.DOTALL)
_VALUE_TYPES = ("vector", "halfvec", "bit", "sparsevec")
# pgvector's defaults: https://github.com/pgvector/pgvector#index-options
_DEFAULT_M = 16
_DEFAULT_LISTS = 100


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """A vector column as an index sees it."""

    name: str
    kind: str
    """vector, halfvec or sparsevec."""
    dimensions: int | None
    """None: it declares none."""
    type_schema: str = ""
    """pgvector's schema with a point, as SQL writes it where the search path does not lead there; else empty."""

    @classmethod
    def of(cls, column: ColumnFacts) -> VectorColumn:
        """Return a column of the catalog."""
        found = READABLE_TYPE.fullmatch(column.stored_type)
        if found is None:
            return cls(column.name, "", None)
        schema = f"{found['schema']}." if found["schema"] else ""
        return cls(column.name, found["kind"], int(found["dimensions"]) if found["dimensions"] else None, schema)

    def among(self, table: TableFacts) -> TableFacts:
        """Return the table with this column, whether it has it already or not."""
        size = f"({self.dimensions})" if self.dimensions else ""
        own = ColumnFacts(
            self.name,
            f"{self.type_schema}{self.kind}{size}",
            is_nullable=True,
            has_default=False,
            is_identity=False,
            is_generated=False,
        )
        return replace(table, columns={**table.columns, self.name: own})


def made_as(definition: str) -> str:
    """Return what an index is made of, without its name, in one spelling."""
    found = _METHOD_AND_KEY.search(definition)
    rest = definition[found.start() :] if found else definition
    # The server prints quotes around every option's value, and no spaces; ragops quotes every name.
    return re.sub(r"\s*=\s*", "=", _CLASS_SCHEMA.sub("", re.sub("[\"']", "", rest)))


def is_plain_hnsw(definition: str, column: str, operator_class: str) -> bool:
    """Return whether a definition is that of an HNSW index over all rows of a column."""
    found = _METHOD_AND_KEY.search(definition)
    if found is None or found[1] != "hnsw" or _PREDICATE.search(definition):
        return False
    # The class has its schema in front where the extension is outside of the search path.
    key = rf'(?:{re.escape(column)}|"{re.escape(column)}") (?:(?:"(?:[^"]|"")+"|\w+)\.)?{operator_class}'
    return re.fullmatch(key, found[2]) is not None


def graph_of(definition: str, table: TableFacts) -> Graph | Lists:
    """Return what a build holds in memory, from the index's definition as `pg_get_indexdef` prints it."""
    method, key = found.groups() if (found := _METHOD_AND_KEY.search(definition)) else ("hnsw", "")
    kind = found[1] if (found := _CLASS.search(key)) else ""
    types = _TYPE.findall(key)
    for column in table.columns.values():
        if key == column.name or key.startswith((f"{column.name} ", f'"{column.name}" ')):
            types = _TYPE.findall(column.type)
            # The server leaves out an operator class that is its type's default, as vector_l2_ops for IVFFlat.
            kind = kind or column.type.rpartition(".")[2].partition("(")[0]
    # An expression may cast twice; the outermost cast is what the index stores.
    dimensions = int(types[-1]) if types else None
    if method == "ivfflat":
        lists = int(found[1]) if (found := _LISTS.search(definition)) else _DEFAULT_LISTS
        return Lists(kind, dimensions, lists)
    m = int(found[1]) if (found := _M.search(definition)) else _DEFAULT_M
    return Graph(kind, dimensions, m)


def over_column(made: str, *, is_plain: bool, old: VectorColumn, new: VectorColumn) -> str:
    """Return what follows an index's table (` USING hnsw (…) …`) for the same index over another column.

    The column is replaced wherever it stands, in the key and in a predicate. A plain key (`is_plain`: the column
    alone) gets the operator class of the new type. In an expression a cast to all of the old dimensions is one to
    the new dimensions; a part of a vector (`subvector`) keeps its length.
    """
    tokens = list(_renamed(_TOKEN.findall(made), quoted(old.name), quoted(new.name)))
    if is_plain:
        return "".join(_with_class(tokens, old, new))
    if new.dimensions is None or "subvector" in tokens:
        return "".join(tokens)
    return "".join(_recast(tokens, old.dimensions, new.dimensions))


def _renamed(tokens: list[str], old: str, new: str) -> Iterator[str]:
    """Replace a column's name; a type, function or schema of that name, as `vector`, is none."""
    for i, token in enumerate(tokens):
        before, after = (tokens[i - 1] if i else ""), (tokens[i + 1] if i + 1 < len(tokens) else "")
        is_column = token == old and before not in ("::", ".") and after not in ("(", ".")
        yield new if is_column else token


def _with_class(tokens: list[str], old: VectorColumn, new: VectorColumn) -> Iterator[str]:
    """Give a plain key the operator class of the new type; the server leaves out the default of the old one."""
    opened = tokens.index("(")
    closed = tokens.index(")", opened)
    key = tokens[opened + 1 : closed]
    found = next((i for i, token in enumerate(key) if token.endswith("_ops")), None)
    if found is not None:
        key[found] = key[found].replace(f"{old.kind}_", f"{new.kind}_", 1)
    elif new.kind != old.kind:
        key = [*key, f" {new.type_schema or old.type_schema}{new.kind}_l2_ops"]
    yield from [*tokens[: opened + 1], *key, *tokens[closed:]]


def _recast(tokens: list[str], old: int | None, new: int) -> Iterator[str]:
    """Cast to the new dimensions where it was to the old ones; to any, where the old column declares none."""
    for i, token in enumerate(tokens):
        is_size = token.isdigit() and i >= 2 and tokens[i - 1] == "(" and tokens[i - 2] in _VALUE_TYPES
        yield str(new) if is_size and old in (None, int(token)) else token
