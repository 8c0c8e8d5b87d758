"""Limit what a probe gives away: to whom it answers, and what a fingerprint says about this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from pathlib import PureWindowsPath
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from ragops.errors import RagopsError
from ragops.probe.responses import refusal


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches `host`."""
    # Any other name may resolve to any address, and to another one tomorrow.
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class KnownHost:
    """Middleware that answers only requests for a loopback name or one of `hosts`.

    A web page can give its own name the address 127.0.0.1 (DNS rebinding), and read from a browser on this machine
    what a probe without a token answers. The Host header then still has the page's name.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = {host.strip("[]").lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not Starlette's TrustedHostMiddleware, which cuts `[::1]:8791` at the first colon.
        given = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1")
        name = given[1:].partition("]")[0] if given.startswith("[") else given.partition(":")[0]
        if scope["type"] != "http" or is_loopback(name.lower()) or name.lower() in self._hosts:
            await self._app(scope, receive, send)
            return
        error = RagopsError(
            "this probe does not answer to that name",
            actual=f"Host: {given[:100]}",
            expected="localhost, a loopback address, or a name given with --allowed-host",
        )
        await refusal(error, status=421)(scope, receive, send)


def public_document(document: Mapping[str, object]) -> dict[str, object]:
    """Return a fingerprint without this machine's name and without its paths; none of them moves a vector."""
    public = dict(document)
    if isinstance(build := public.get("build"), Mapping):
        public["build"] = {**build, "python": "", "cmake_args": _without_paths(build.get("cmake_args"))}
    if isinstance(model := public.get("model"), Mapping):
        # Windows' rules split at both separators.
        public["model"] = {**model, "path": PureWindowsPath(str(model.get("path", ""))).name}
    if isinstance(host := public.get("host"), Mapping):
        public["host"] = {**host, "name": ""}
    return public


def _without_paths(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    return " ".join(word for word in arguments.split() if "/" not in word and "\\" not in word)
