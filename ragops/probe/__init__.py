"""The runbook's debug endpoint, provided by ragops: served by itself or mounted into a backend.

`create_probe_app` is the one API that is meant to be imported by other programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["create_probe_app"]

if TYPE_CHECKING:
    from ragops.probe.app import create_probe_app
else:

    def __getattr__(name: str) -> object:
        """Import `create_probe_app` when it is first used (PEP 562)."""
        # Not at import of the package: `ragops probe --help` must work without the extra `probe` (Starlette),
        # and must not wait for numpy and psycopg either.
        if name == "create_probe_app":
            from ragops.probe.app import create_probe_app

            return create_probe_app
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
