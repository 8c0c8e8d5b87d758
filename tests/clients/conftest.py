"""A staged incident in the tables of a client library or a vendor's guide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Server, fresh_database
from workplace import open_workplace

from clients.corpus import Embedder
from clients.layout import Layout
from clients.stage import Stage, open_stage


@pytest.fixture(scope="session")
def embed(tiny_model: Path) -> Embedder:
    return Embedder(tiny_model)


@pytest.fixture
def stage(layout: Layout, pg18: Server, tiny_model: Path, tmp_path: Path, embed: Embedder) -> Iterator[Stage]:
    """The application of a layout in a fresh database, with wrong vectors."""
    with (
        fresh_database(pg18, template="template1") as dsn,
        open_workplace(tmp_path, dsn=dsn, corpus=tmp_path, model=tiny_model, gate=20, index_after=40) as place,
    ):
        yield open_stage(place, layout, tiny_model, embed)
