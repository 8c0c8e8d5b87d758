"""A probe whose database, embedder or client fails: one clear answer, and nothing that it should not say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from campaigns import execute, make_playbook, value
from conftest import wait_for
from probe_factory import QUERY, Broken, Slow, fill, get
from starlette.applications import Starlette

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.postgres.connection import Target
from ragops.probe import create_probe_app
from ragops.probe.app import COMPARE_PATH, MAX_WAITING

PASSWORD = "pass-word-never-shown"


@pytest.fixture(scope="module")
def embedder(tiny_model: Path) -> Iterator[Embedder]:
    with Embedder(EmbedderConfig(tiny_model)) as running:
        yield running


@pytest.fixture
def stored(dsn18: str, embedder: Embedder) -> str:
    """A database with five documents."""
    return fill(dsn18, embedder)


@pytest.fixture
def make_app(tiny_model: Path) -> Iterator[Callable[..., Starlette]]:
    """Makes apps; their embedders end with the test."""
    made: list[Starlette] = []

    def make(dsn: str, **options: Any) -> Starlette:
        app = create_probe_app(
            target=Target(dsn, "the test database"), playbook=make_playbook(model=tiny_model), **options
        )
        made.append(app)
        return app

    yield make
    for app in made:
        app.state.probe.close()


def test_a_lost_database_is_a_503_without_password(make_app: Callable[..., Starlette]) -> None:
    app = make_app(f"postgresql://someone:{PASSWORD}@127.0.0.1:1/rag?connect_timeout=2")
    answer = get(app, query=QUERY)
    assert answer.status_code == 503
    assert answer.json()["what"] == "the database cannot be reached"
    assert answer.json()["found"]
    assert PASSWORD not in answer.text and "Traceback" not in answer.text


def test_a_missing_model_is_a_503_and_no_folder_is_told(stored: str, tmp_path: Path) -> None:
    playbook = make_playbook(model=tmp_path / "none.gguf")
    app = create_probe_app(target=Target(stored, "the test database"), playbook=playbook)
    answer = get(app, query=QUERY)
    assert (answer.status_code, answer.json()["what"]) == (503, "the model file does not exist")
    assert str(tmp_path) not in answer.text


def test_a_dead_embedder_is_started_again(
    stored: str, make_app: Callable[..., Starlette], tiny_model: Path
) -> None:
    started: list[Embedder] = []

    def start() -> Embedder:
        started.append(Embedder(EmbedderConfig(tiny_model)))
        return started[-1]

    app = make_app(stored, embedder_factory=start)
    assert get(app, query=QUERY).status_code == 200
    started[0].kill()
    answers = [get(app, query=QUERY).status_code for _ in range(2)]
    assert answers in ([200, 200], [503, 200])  # the death may show only in the next request
    assert len(started) == 2


def test_a_query_without_direction_is_no_stored_vector_s_fault(
    stored: str, make_app: Callable[..., Starlette], embedder: Embedder
) -> None:
    app = make_app(stored, embedder_factory=lambda: Broken(embedder))
    answer = get(app, query=QUERY)
    assert answer.status_code == 503
    assert answer.json()["found"] == "zero vector (norm 0)"


def test_one_query_at_a_time_and_a_bounded_line(
    stored: str, make_app: Callable[..., Starlette], embedder: Embedder
) -> None:
    slow = Slow(embedder)
    app = make_app(stored, embedder_factory=lambda: slow)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://probe", timeout=60) as client:
            asked = [
                asyncio.create_task(client.get(COMPARE_PATH, params={"query": QUERY}))
                for _ in range(MAX_WAITING + 3)
            ]
            refused, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            assert all(task.result().status_code == 503 for task in refused)
            slow.may_answer.set()
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask())
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * MAX_WAITING + [503] * 3
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert (busy.json()["what"], busy.headers["retry-after"]) == ("the probe is busy", "2")
    assert (slow.entered, slow.most) == (MAX_WAITING, 1)


def test_closing_cancels_a_scan(stored: str, make_app: Callable[..., Starlette]) -> None:
    execute(
        stored,
        "ALTER TABLE documents RENAME TO real_documents",
        "CREATE VIEW documents AS SELECT id, content, embedding FROM real_documents, pg_sleep(300)",
    )
    app = make_app(stored)
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(get(app, query=QUERY)))
    asking.start()
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    wait_for(lambda: value(stored, sleeping) == 1, what="the scan")
    app.state.probe.close()
    asking.join(60)
    assert [answer.status_code for answer in answers] == [503]
    assert "cancel" in answers[0].json()["found"]
    assert value(stored, sleeping) == 0


def test_a_scan_that_takes_too_long_is_cancelled(stored: str, make_app: Callable[..., Starlette]) -> None:
    execute(
        stored,
        "ALTER TABLE documents RENAME TO real_documents",
        "CREATE VIEW documents AS SELECT id, content, embedding FROM real_documents, pg_sleep(300)",
    )
    answer = get(make_app(stored, query_timeout_s=1.0), query=QUERY)
    assert (answer.status_code, answer.json()["success"]) == (503, False)
    assert answer.json()["needed"] == "a scan of the documents within 1 s"
