"""The layouts as parameters of tests, and one of them with its application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg import sql
from workplace import Workplace, cosine_distance

from clients import layouts_by_hand, layouts_django, layouts_libraries
from clients.corpus import Embedder
from clients.layout import Application, Layout, Store, open_store

EVERY = (*layouts_libraries.LAYOUTS, *layouts_django.LAYOUTS, *layouts_by_hand.LAYOUTS)


@dataclass
class Stage:
    """A store and the application that searches it."""

    store: Store
    application: Application


def named(*names: str) -> list[object]:
    """Return layouts as parameters of a test, all of them without names."""
    known = {layout.name: layout for layout in EVERY}
    return [_parameter(known[name]) for name in names or known]


def _parameter(layout: Layout) -> object:
    missing = layout.client is not None and not layouts_libraries.is_installed(layout.client)
    marks = [pytest.mark.slow]
    if layout.client is not None:
        reason = f"needs {layout.client}: pip install 'ragops[test,test-clients]'"
        marks += [pytest.mark.clients, pytest.mark.skipif(missing, reason=reason)]
    return pytest.param(layout, marks=marks, id=layout.name)


def open_stage(place: Workplace, layout: Layout, model: Path, embed: Embedder) -> Stage:
    store = open_store(place, layout, model, embed)
    return Stage(store, layout.open(store))


def wrong_rows(
    store: Store, targets: Sequence[Mapping[str, object]] = (), *, tolerance: float = 1e-3
) -> list[tuple[str | None, float]]:
    """Return the texts of all targets whose vector is not that of the text, with the distance; 2 without one."""
    wrong: list[tuple[str | None, float]] = []
    with psycopg.connect(store.dsn) as connection:
        for target in targets or store.layout.targets:
            for text, vector in connection.execute(_texts(target)):
                found = [float(value) for value in vector[1:-1].split(",")] if vector else None
                if text is None or found is None:
                    wrong.append((text, 2.0))
                    continue
                distance = cosine_distance(_array(found), _array(store.shifted.query(text)))
                if distance > tolerance:
                    wrong.append((text, distance))
    return wrong


def _array(values: list[float]) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _texts(target: Mapping[str, object]) -> sql.Composed:
    text = target.get("sql")
    if text is None:
        # The templates here have no braces but those around names.
        parts = str(target["text"]).replace("}", "{").split("{")
        text = " || ".join(
            f'"{part}"' if i % 2 else "'" + part.replace("'", "''") + "'" for i, part in enumerate(parts)
        )
    return sql.SQL("SELECT {}, {}::text FROM {} WHERE {}").format(
        sql.SQL(str(text)),
        sql.Identifier(str(target.get("embedding", "embedding"))),
        sql.SQL(str(target["table"])),
        sql.SQL(str(target.get("where", "true"))),
    )
