"""Serve the probe's app with Uvicorn: `ragops probe serve`."""

from __future__ import annotations

import functools
import importlib
import ipaddress
import socket
from collections.abc import Callable, Mapping

from ragops.errors import RagopsError, UsageError
from ragops.playbook.model import Playbook
from ragops.postgres.connection import Target

# For requests that are still running at Ctrl-C; a scan of a large table may take longer and is cancelled.
GRACE_S = 5


def check_extra() -> None:
    """Raise UsageError unless the extra `probe` is installed."""
    try:
        for name in ("starlette", "uvicorn"):
            importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            "the probe's packages are not installed",
            actual=str(error),
            expected="the extra `probe` (Starlette and Uvicorn)",
            hint="pip install 'ragops[probe]'",
        ) from error


def check_exposure(host: str, *, token: str | None) -> None:
    """Raise UsageError if other machines could use the probe without a token."""
    if token is None and not is_loopback(host):
        raise UsageError(
            "the probe would be open to every machine that reaches this one",
            where=f"--host {host}",
            expected="--token-env NAME, the environment variable that holds a bearer token; or --host 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches `host`."""
    # Any other name may resolve to any address, and to another one tomorrow.
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def serve(
    *,
    target: Target,
    playbook: Playbook,
    host: str,
    port: int,
    token: str | None,
    info: Callable[[str], None],
) -> None:
    """Serve until a signal arrives; print the address once it listens. Port 0 takes any free one.

    Raises UsageError, EmbedderError, ModelUnusable; RagopsError if it cannot listen on the address.
    """
    check_extra()
    check_exposure(host, token=token)
    import uvicorn

    from ragops.fingerprint.against import capture_own
    from ragops.probe.app import COMPARE_PATH, create_probe_app

    @functools.cache
    def fingerprint() -> Mapping[str, object]:
        """Return the fingerprint, captured at the first request: it takes another child some seconds."""
        return capture_own(playbook).document

    app = create_probe_app(target=target, playbook=playbook, token=token, fingerprint=fingerprint)
    with listen(host, port) as listening:
        try:
            # Started before it is announced: a wrong model or build must end the command, not the first query.
            app.state.probe.start()
            bound_host, bound_port = listening.getsockname()[:2]
            if ":" in bound_host:
                bound_host = f"[{bound_host}]"
            info(f"the probe compares with {target.label}; Ctrl-C stops it")
            info(f"listening on http://{bound_host}:{bound_port}{COMPARE_PATH}?query=TEXT")
            config = uvicorn.Config(
                app,
                # Its own configuration closes every handler that exists, the log file of the command included.
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            app.state.probe.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises RagopsError if the address is taken, unknown or forbidden."""
    # Not left to Uvicorn, which calls sys.exit(1) if it cannot bind.
    name = host.strip("[]")
    try:
        family, *_, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        raise RagopsError(
            "the probe cannot listen on this address",
            where=f"{host}:{port}",
            actual=str(error),
            hint="another program may be using the port: --port 0 takes any free one",
        ) from None
