"""The public face of the probe: one name, and nothing heavy until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ragops.probe
from ragops.probe import app

HEAVY = ("starlette", "uvicorn", "numpy", "psycopg", "pydantic")


def test_the_app_can_be_imported_from_the_package() -> None:
    assert ragops.probe.create_probe_app is app.create_probe_app
    assert ragops.probe.__all__ == ["create_probe_app"]
    with pytest.raises(AttributeError, match="has no attribute 'create_prob_app'"):
        _ = ragops.probe.create_prob_app  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, ragops.probe; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = "import sys; from ragops.probe import create_probe_app; print('starlette' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
