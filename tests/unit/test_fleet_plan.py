"""Workers × threads against the physical cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builds_factory import make_build
from playbook_factory import playbook

from ragops.errors import UsageError
from ragops.workers.fleet import FleetShape, embedder_config, plan_fleet, worker_python


def _note(workers: int, threads: int, cores: int, fits: str) -> str:
    word = "thread" if threads == 1 else "threads"
    return f"{workers} workers × {threads} {word} on {cores} physical cores oversubscribes them; {fits} fits"


PLANNED: list[tuple[int, int | str | None, int, FleetShape]] = [
    (3, None, 12, FleetShape(3, 4)),
    (3, "planned", 12, FleetShape(3, 4)),
    (3, None, 4, FleetShape(3, 1)),
    (3, None, 3, FleetShape(3, 1)),
    (3, None, 11, FleetShape(3, 3)),
    (1, None, 8, FleetShape(1, 8)),
    (1, None, 1, FleetShape(1, 1)),
    (1, None, 0, FleetShape(1, 1)),
    (3, 2, 6, FleetShape(3, 2)),
    (3, 1, 64, FleetShape(3, 1)),
    (3, None, 2, FleetShape(3, 1, _note(3, 1, 2, "2 × 1"))),
    (8, "planned", 4, FleetShape(8, 1, _note(8, 1, 4, "4 × 1"))),
    (3, 4, 8, FleetShape(3, 4, _note(3, 4, 8, "8 × 1"))),
    (2, 16, 8, FleetShape(2, 16, _note(2, 16, 8, "8 × 1"))),
    (3, 8, 1, FleetShape(3, 8, _note(3, 8, 1, "1 × 1"))),
    (3, "cpu_count", 8, FleetShape(3, 16, _note(3, 16, 8, "8 × 1"))),
    (1, "cpu_count", 16, FleetShape(1, 16)),
]


@pytest.mark.parametrize(("workers", "threads", "cores", "shape"), PLANNED)
def test_plan_fleet(
    workers: int, threads: int | str | None, cores: int, shape: FleetShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert plan_fleet(workers=workers, threads=threads, physical_cores=cores) == shape


@pytest.mark.parametrize("cores", range(1, 70))
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8, 64])
def test_planned_threads_never_oversubscribe_when_the_workers_fit(workers: int, cores: int) -> None:
    shape = plan_fleet(workers=workers, threads=None, physical_cores=cores)
    assert shape.workers == workers
    assert shape.threads >= 1
    if workers <= cores:
        assert shape.note is None
        assert workers * shape.threads <= cores < workers * (shape.threads + 1)
    else:
        assert shape.threads == 1
        assert shape.note is not None


def test_unknown_cpu_count_falls_back_to_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert plan_fleet(workers=1, threads="cpu_count", physical_cores=4) == FleetShape(1, 4)


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
