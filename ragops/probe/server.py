"""Serve the probe's app with Uvicorn: `ragops probe serve`."""

from __future__ import annotations

import functools
import importlib
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ragops.errors import RagopsError, UsageError
from ragops.playbook.model import Playbook
from ragops.postgres.connection import Target
from ragops.reporter import Reporter

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
    from ragops.probe.exposure import is_loopback  # with Starlette

    if token is None and not is_loopback(host):
        raise UsageError(
            "the probe would be open to every machine that reaches this one",
            where=f"--host {host}",
            expected="--token-env NAME, the environment variable that holds a bearer token; or --host 127.0.0.1",
        )


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of the probe's certificate (with its chain) and key."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Raise UsageError unless the two can be loaded and belong together."""
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.certificate, self.key)
        except OSError as error:  # SSLError is one
            raise UsageError(
                "the probe's certificate cannot be used",
                where=f"--tls-cert {self.certificate} --tls-key {self.key}",
                actual=error.strerror or str(error),
                expected="a certificate and its key, without a passphrase, as PEM files",
            ) from None


def serve(
    *,
    target: Target,
    playbook: Playbook,
    host: str,
    port: int,
    token: str | None,
    reporter: Reporter,
    query_timeout_s: float,
    allowed_hosts: Collection[str] = (),
    tls: Tls | None = None,
) -> None:
    """Serve until a signal arrives; print the address once it listens. Port 0 takes any free one.

    Raises UsageError, EmbedderError, ModelUnusable; RagopsError if it cannot listen on the address.
    """
    check_extra()
    check_exposure(host, token=token)
    import uvicorn

    from ragops.fingerprint.against import capture_own
    from ragops.probe.app import COMPARE_PATH, create_probe_app
    from ragops.probe.exposure import is_loopback

    @functools.cache
    def fingerprint() -> Mapping[str, object]:
        """Return the fingerprint, captured at the first request: it takes another child some seconds."""
        return capture_own(playbook).document

    # A browser has no token: with one, any name may lead here, such as that of a proxy.
    hosts = None if token and not allowed_hosts else [host, *allowed_hosts]
    app = create_probe_app(
        target=target,
        playbook=playbook,
        token=token,
        fingerprint=fingerprint,
        query_timeout_s=query_timeout_s,
        allowed_hosts=hosts,
    )
    with listen(host, port) as listening:
        try:
            # Started before it is announced: a wrong model or build must end the command, not the first query.
            app.state.probe.start()
            bound_host, bound_port = listening.getsockname()[:2]
            if ":" in bound_host:
                bound_host = f"[{bound_host}]"
            if tls is None and not is_loopback(host):
                reporter.warning(
                    "the token and the answers cross the network in plain text: "
                    "--tls-cert FILE --tls-key FILE, or a proxy with TLS in front"
                )
            reporter.info(f"the probe compares with {target.label}; Ctrl-C stops it")
            scheme = "https" if tls else "http"
            reporter.info(f"listening on {scheme}://{bound_host}:{bound_port}{COMPARE_PATH}?query=TEXT")
            config = uvicorn.Config(
                app,
                # Its own configuration closes every handler that exists, the log file of the command included.
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
                ssl_certfile=None if tls is None else str(tls.certificate),
                ssl_keyfile=None if tls is None else str(tls.key),
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
