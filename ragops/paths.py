"""Paths to ragops' data and cache directories, with environment overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """Return the user's data folder: the embedded server, the demo's corpus. RAGOPS_DATA_DIR overrides it."""
    # Absolute: child processes may run in another folder.
    given = os.environ.get("RAGOPS_DATA_DIR")
    return Path(given).absolute() if given else platformdirs.user_data_path("ragops")


def cache_folder() -> Path:
    """Return the user's cache folder: converted models, computed vectors. RAGOPS_CACHE_DIR overrides it."""
    given = os.environ.get("RAGOPS_CACHE_DIR")
    return Path(given).absolute() if given else platformdirs.user_cache_path("ragops")


def cache_file() -> Path:
    """Return the file of cached vectors."""
    return cache_folder() / "vectors.sqlite"


def tuning_file() -> Path:
    """Return the file of the settings that `ragops tune` chose on this machine."""
    return data_folder() / "tuning.json"


def server_folder() -> Path:
    """Return the folder of the embedded server's data."""
    return data_folder() / "postgres"


def demo_file() -> Path:
    """Return the file of the demo's playbook variables, for later commands on the embedded server."""
    return data_folder() / "demo.json"


def with_defaults(environment: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with defaults for variables that are unset or empty."""
    # Empty counts as unset, as in a playbook's `${NAME:-default}`.
    return {**environment, **{name: value for name, value in defaults.items() if not environment.get(name)}}
