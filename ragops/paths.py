"""Where ragops keeps things on this machine, and what the environment says about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """The user's data folder: the embedded server, the demo's corpus. RAGOPS_DATA_DIR overrides it."""
    given = os.environ.get("RAGOPS_DATA_DIR")
    return Path(given).absolute() if given else platformdirs.user_data_path("ragops")


def cache_folder() -> Path:
    """The user's cache folder: converted models, computed vectors. RAGOPS_CACHE_DIR overrides it."""
    given = os.environ.get("RAGOPS_CACHE_DIR")
    return Path(given).absolute() if given else platformdirs.user_cache_path("ragops")


def cache_file() -> Path:
    """Vectors that were computed before."""
    return cache_folder() / "vectors.sqlite"


def tuning_file() -> Path:
    """What `ragops tune` chose on this machine."""
    return data_folder() / "tuning.json"


def server_folder() -> Path:
    """The embedded server's data."""
    return data_folder() / "postgres"


def demo_file() -> Path:
    """What the demo leaves for later commands on the embedded server: the variables of its playbook."""
    return data_folder() / "demo.json"


def with_defaults(environment: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """The environment with defaults for variables that are unset or empty."""
    return {**environment, **{name: value for name, value in defaults.items() if not environment.get(name)}}
