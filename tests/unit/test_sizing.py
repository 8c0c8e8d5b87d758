"""Workers × threads against the cores and the memory that a fleet may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from builds_factory import make_build
from playbook_factory import playbook

from ragops.embedder import config
from ragops.embedder.config import embedder_config, worker_python
from ragops.errors import UsageError
from ragops.facts import HostLimits
from ragops.workers.sizing import Sizing, plan_fleet
from ragops.workers.tuned import Tuned

GIB = 1 << 30
SOLON = 300 << 20  # bytes of a model of 768 dimensions


def limits(cores: int, *, memory_gib: float = 64) -> HostLimits:
    return HostLimits(cores=cores, memory_bytes=int(memory_gib * GIB))


def plan(text: str, host: HostLimits, **more: Any) -> Sizing:
    return plan_fleet(playbook(text), host, **more)


def _note(workers: int, threads: int, cores: int, fits: str) -> str:
    word, core = "thread" if threads == 1 else "threads", "core" if cores == 1 else "cores"
    return f"{workers} workers × {threads} {word} oversubscribe {cores} {core}; {fits} fits"


# asked workers and threads, cores → workers, threads, warning
PLANNED: list[tuple[str, str, int, tuple[int, int, str | None]]] = [
    ("planned", "null", 1, (1, 1, None)),
    ("planned", "null", 2, (2, 1, None)),
    ("planned", "null", 64, (64, 1, None)),
    ("planned", "4", 64, (16, 4, None)),
    ("planned", "4", 2, (1, 4, _note(1, 4, 2, "2 × 1"))),
    ("3", "null", 12, (3, 4, None)),
    ("3", "null", 11, (3, 3, None)),
    ("3", "null", 3, (3, 1, None)),
    ("1", "null", 8, (1, 8, None)),
    ("3", "2", 6, (3, 2, None)),
    ("3", "null", 2, (3, 1, _note(3, 1, 2, "2 × 1"))),
    ("8", "null", 4, (8, 1, _note(8, 1, 4, "4 × 1"))),
    ("3", "4", 8, (3, 4, _note(3, 4, 8, "2 × 4"))),
    ("3", "8", 1, (3, 8, _note(3, 8, 1, "1 × 1"))),
]


@pytest.mark.parametrize(("workers", "threads", "cores", "expected"), PLANNED)
def test_workers_and_threads(
    workers: str, threads: str, cores: int, expected: tuple[int, int, str | None]
) -> None:
    sizing = plan(f"workers: {{count: {workers}, threads: {threads}}}", limits(cores))
    assert (sizing.workers, sizing.threads, sizing.note) == expected


def test_the_runbook_s_threads_are_used_as_given_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    sizing = plan("workers: {count: 3}\nmodel: {parameters: {n_threads: cpu_count}}", limits(8))
    assert (sizing.workers, sizing.threads) == (3, 16)
    assert sizing.note == _note(3, 16, 8, "8 × 1")


@pytest.mark.parametrize("cores", range(1, 70))
@pytest.mark.parametrize("workers", ["planned", "1", "2", "3", "5", "8", "64"])
def test_planned_threads_never_oversubscribe_when_the_workers_fit(workers: str, cores: int) -> None:
    sizing = plan(f"workers: {{count: {workers}}}", limits(cores))
    assert sizing.threads >= 1
    if workers == "planned" or int(workers) <= cores:
        assert sizing.note is None
        assert sizing.workers * sizing.threads <= cores < sizing.workers * (sizing.threads + 1)
    else:
        assert (sizing.workers, sizing.threads) == (int(workers), 1)
        assert sizing.note is not None


def test_as_many_workers_as_the_memory_holds() -> None:
    """Two gibibytes hold four children of 300 MiB and 200 MiB each; their threads fill the cores."""
    sizing = plan("", limits(16, memory_gib=2), model_bytes=SOLON)
    assert (sizing.workers, sizing.threads, sizing.note) == (4, 4, None)


def test_workers_beyond_the_memory_are_reported() -> None:
    sizing = plan("workers: {count: 8}", limits(16, memory_gib=2), model_bytes=SOLON)
    assert (sizing.workers, sizing.threads) == (8, 2)
    assert sizing.note == "8 workers may need 3.9 GiB of memory, 2.0 GiB are free; 4 fit"


def test_a_tuned_choice_replaces_the_computed_one() -> None:
    tuned = Tuned(workers=1, threads=2, tokens_per_batch=512)
    assert plan("", limits(4), tuned=tuned).workers == 1
    assert plan("", limits(4), tuned=tuned).threads == 2
    assert plan("", limits(4), tuned=tuned).tokens_per_batch == 512
    assert "tuned: 4 cores" in str(plan("", limits(4), tuned=tuned))
    assert plan("workers: {count: 4}", limits(4), tuned=tuned).workers == 4
    assert plan("workers: {tokens_per_batch: 64}", limits(4), tuned=tuned).tokens_per_batch == 64


@pytest.mark.parametrize("value", ["auto", "planned"])
def test_auto_and_planned_mean_the_same(value: str) -> None:
    book = playbook().with_changes(workers={"count": value, "tokens_per_batch": value})
    assert plan_fleet(book, limits(4)) == plan("", limits(4))


def test_the_plan_s_words() -> None:
    assert str(plan("", limits(2))) == (
        "2 workers × 1 thread, 256 tokens per batch (auto: 2 cores, 64.0 GiB of memory free)"
    )
    assert str(plan("workers: {count: 1, threads: 2}", limits(2))).endswith(
        "(as given: 2 cores, 64.0 GiB of memory free)"
    )


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, 4)])
def test_a_child_beside_a_fleet_leaves_it_room(cores: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "read_limits", lambda: limits(cores))
    assert config.side_threads() == threads


def test_workers_run_under_the_playbook_s_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGOPS_DATA_DIR", str(tmp_path))
    record = make_build("aligned")
    used = playbook("build: {use: aligned}")
    assert worker_python(used) == str(record.interpreter)
    assert embedder_config(used.with_changes(model={"file": tmp_path / "m.gguf"}), threads=1).python == str(
        record.interpreter
    )
    # An interpreter that is named outright comes first; without either it is this one.
    assert worker_python(used.with_changes(workers={"python": Path("other")})) == "other"
    assert worker_python(playbook()) is None
    with pytest.raises(UsageError, match="no build of that name"):
        worker_python(playbook("build: {use: missing}"))
