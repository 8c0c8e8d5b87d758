"""Probes and records of builds for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ragops.builds.library import Library, Probe
from ragops.builds.records import VENV, BuildRecord, folder_of, interpreter_of, write_record
from ragops.builds.standalone import parse_system_info

INFO = "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | F16C = 1 | BMI2 = 1 | REPACK = 1 | "


def probe(info: str = INFO) -> Probe:
    libraries = (Library("lib/libllama.so", "ab" * 32),)
    return Probe(Path("python"), "0.3.16", "3.11.0", "Test", libraries, info, parse_system_info(info))


def make_record(name: str = "one", **changes: Any) -> BuildRecord:
    """A record with its folder and interpreter in the data folder; not yet written."""
    folder = folder_of(name)
    (folder / VENV).mkdir(parents=True)
    python = interpreter_of(folder)
    python.parent.mkdir()
    python.touch()
    asked = probe()
    record = BuildRecord(
        name=name,
        version="0.3.16",
        cmake_args=("-DGGML_NATIVE=OFF",),
        created_at=datetime(2025, 10, 13, 12, 0, tzinfo=UTC),
        folder=folder,
        python_version=asked.python_version,
        platform=asked.platform,
        compiler="/usr/bin/c++",
        seconds=271.5,
        system_info=asked.system_info,
        features=asked.features,
        libraries=asked.libraries,
    )
    return replace(record, **changes)


def make_build(name: str = "one", **changes: Any) -> BuildRecord:
    """A complete build without a library."""
    record = make_record(name, **changes)
    write_record(record)
    return record
