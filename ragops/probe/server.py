"""`ragops probe serve`: the app in a server of its own."""

from __future__ import annotations

import functools
import importlib
import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import Any

from ragops.errors import RagopsError, UsageError
from ragops.playbook.model import Playbook
from ragops.postgres.connection import Target

GRACE_S = 5


def check_extra() -> None:
    """Raise UsageError unless the extra `probe` is installed."""
    try:
        for name in ("starlette", "uvicorn"):
            importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            "the probe needs packages that are not installed",
            actual=str(error),
            expected="the extra `probe` (Starlette and Uvicorn)",
            hint="pip install 'ragops[probe]'",
        ) from error


def check_exposure(host: str, *, token: str | None) -> None:
    """Raise UsageError when other machines could ask without a token."""
    if token is None and not is_loopback(host):
        raise UsageError(
            "the probe would answer every machine that reaches this one",
            where=f"--host {host}",
            expected="--token-env NAME, the environment variable that holds a bearer token; or --host 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; a name other than localhost may be anything."""
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
    """Serve until a signal comes; says where it listens, once it does. Port 0 takes any free one.

    Raises UsageError, EmbedderError, ModelUnusable; RagopsError when the address cannot be listened on.
    """
    check_extra()
    check_exposure(host, token=token)
    import uvicorn

    from ragops.fingerprint.against import capture_own
    from ragops.probe.app import COMPARE_PATH, create_probe_app

    @functools.cache
    def fingerprint() -> Mapping[str, Any]:
        """Captured at the first request: it takes a child of its own for some seconds."""
        return capture_own(playbook).document

    app = create_probe_app(target=target, playbook=playbook, token=token, fingerprint=fingerprint)
    with listen(host, port) as listening:
        try:
            app.state.probe.start()
            address = _address(listening)
            info(f"the probe compares with {target.label}; Ctrl-C stops it")
            info(f"listening on {address}{COMPARE_PATH}?query=TEXT")
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            app.state.probe.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises RagopsError when the address is taken, unknown or forbidden."""
    name = host.strip("[]")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0])
    except (OSError, UnicodeError) as error:
        raise RagopsError(
            "the probe cannot listen on this address",
            where=f"{host}:{port}",
            actual=str(error),
            hint="another program may use the port: --port 0 takes any that is free",
        ) from None


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
