"""A layout: how an application stores documents, how it searches, and the playbook's targets for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import psycopg
from psycopg.conninfo import conninfo_to_dict
from workplace import Finished, Workplace

from clients import oracle
from clients.corpus import Document, Embedder, Shifted, Vector, documents, nearest

DIMENSIONS = 32
# Documents that are asked for, and how many are expected in return.
ASKED, FOUND = (3, 17, 29), 3
# What follows a vector column's name in that of the second one, before the cutover and after it.
SECOND = ("_new", "_old")


@dataclass(frozen=True, slots=True)
class Found:
    """What the application's own search returns of one document."""

    number: int
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Application(Protocol):
    """An application with its table: it stores the documents with wrong vectors, and searches."""

    def search(self, query: Vector, limit: int) -> list[Found]:
        """Return what the application's own search finds."""


@runtime_checkable
class Writing(Application, Protocol):
    """An application of which tests use the writes, too."""

    def add(self, document: Document) -> None:
        """Store one more document, by the library's own means."""

    def remove(self, document: Document) -> None:
        """Remove a document, by the library's own means."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to store documents."""

    name: str
    open: Callable[[Store], Application]
    """Make the tables, store the documents with wrong vectors, and return the application."""
    targets: tuple[Mapping[str, object], ...]
    """Of the playbook."""
    vectors: tuple[tuple[str, str], ...]
    """The vector columns that a campaign writes: the table as `schema.table`, and the column."""
    embedded: Callable[[Document], str] = lambda document: document.body
    """The text that the application embeds."""
    init: tuple[str, ...] = ()
    """Options of `ragops init`: what it can know only from its user. Empty: the playbook is written by hand."""
    metric: str = "cosine"
    extension: str = "public"
    """The schema of pgvector."""
    client: str | None = None
    """The client library that has to be installed."""

    def __str__(self) -> str:
        return self.name


@dataclass
class Store:
    """A database in which an application keeps its documents."""

    place: Workplace
    layout: Layout
    shifted: Shifted
    documents: tuple[Document, ...]
    model: Path

    @property
    def dsn(self) -> str:
        return self.place.dsn

    @property
    def url(self) -> str:
        """The database as SQLAlchemy's URLs have it, without the driver."""
        parts = conninfo_to_dict(self.dsn)
        host = str(parts["host"])
        if host.startswith("/"):
            return f"://{parts['user']}@/{parts['dbname']}?host={host}&port={parts.get('port', 5432)}"
        return f"://{parts['user']}@{host}:{parts.get('port', 5432)}/{parts['dbname']}"

    def vector(self, document: Document) -> Vector:
        """Return the vector that the application stores with a document: a wrong one, at first."""
        return self.shifted.stored(self.layout.embedded(document))

    def right_vectors(self) -> dict[int, Vector]:
        return {d.number: self.shifted.query(self.layout.embedded(d)) for d in self.documents}

    def expected(self, asked: Document, limit: int = FOUND) -> list[int]:
        """Return what an exact search over right vectors finds."""
        query = self.shifted.query(self.layout.embedded(asked))
        return nearest(query, self.right_vectors(), limit=limit, metric=self.layout.metric)

    def columns(self) -> dict[str, tuple[int, str]]:
        """Return the checksums of all that no campaign may change; a second column is no part of it."""
        second = [(table, f"{column}{suffix}") for table, column in self.layout.vectors for suffix in SECOND]
        return oracle.checksums(self.dsn, without=(*self.layout.vectors, *second))

    def vectors(self) -> dict[str, tuple[int, str]]:
        return oracle.vector_checksums(self.dsn, self.layout.vectors, beside=SECOND)

    def outside(self) -> list[tuple[Any, ...]]:
        """Return the rows that belong to no target although they are in its table, with their vectors."""
        return [
            row
            for target in self.layout.targets
            for row in self.place.rows(
                f"SELECT t::text FROM {target['table']} t WHERE NOT ({target.get('where', 'true')}) ORDER BY 1"
            )
        ]

    def structure(self) -> dict[str, list[str]]:
        return oracle.structure(self.dsn)

    def write_playbook(
        self,
        name: str,
        steps: Sequence[str],
        *,
        beside: bool = False,
        targets: Sequence[Mapping[str, object]] = (),
        more: str = "",
    ) -> Path:
        """Write a playbook for the layout's targets, or for others."""
        keys = {"write": "beside"} if beside else {}
        # JSON is YAML.
        entries = [json.dumps({**target, **keys}) for target in targets or self.layout.targets]
        text = (
            f"version: 1\nname: {name}\n"
            f"model: {{file: '{self.model}', parameters: {{n_ctx: 128}}}}\n"
            "workers: {count: 1, cache_mib: 0}\n"
            f"targets:\n{_listed(entries)}steps:\n{_listed(steps)}{more}"
        )
        path = self.place.folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    def init(self, campaign: str) -> Path:
        """Let `ragops init` write a playbook, from what it finds out and what its user must say."""
        path = self.place.folder / f"{campaign}.yaml"
        self.ragops(
            *("init", *self.layout.init, "--model", str(self.model), "--campaign", campaign),
            *("--output", str(path), "--yes", "--json"),
        )
        return path

    def ragops(self, *arguments: str, code: int = 0) -> Finished:
        """Run the program; fails the test unless it ends as expected."""
        done = self.place.ragops(*arguments)
        assert done.code == code, f"ragops {' '.join(arguments)} ended with {done.code}:\n{done.out}\n{done.err}"
        return done

    def assert_right(self, application: Application) -> None:
        """Check that the application finds the right documents, with their text and metadata."""
        known = {document.number: document for document in self.documents}
        for number in known.keys() & set(ASKED):
            query = self.shifted.query(self.layout.embedded(known[number]))
            found = application.search(query, FOUND)
            assert [hit.number for hit in found] == self.expected(known[number])
            for hit in found:
                document = known[hit.number]
                assert document.body in hit.text, hit
                if hit.metadata:
                    assert {k: hit.metadata.get(k) for k in document.metadata} == document.metadata, hit

    def assert_wrong(self, application: Application) -> None:
        """Check that the incident is there: no document that is asked for is found first."""
        for document in (self.documents[number] for number in ASKED):
            found = application.search(self.shifted.query(self.layout.embedded(document)), 1)
            assert found and found[0].number != document.number, found


def _listed(entries: Sequence[str]) -> str:
    return "".join(f"  - {entry}\n" for entry in entries)


def open_store(place: Workplace, layout: Layout, model: Path, embed: Embedder) -> Store:
    """Return the store of a layout, with pgvector and nothing else in its database."""
    made = documents()
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        if layout.extension != "public":
            connection.execute(f'CREATE SCHEMA "{layout.extension}"'.encode())
        connection.execute(f'CREATE EXTENSION vector SCHEMA "{layout.extension}"'.encode())
    return Store(place, layout, Shifted(embed, [layout.embedded(document) for document in made]), made, model)
