"""Explain why a reference endpoint failed: what happened, what it sent, and what to check."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus

import httpx

# Both are temporary by definition (RFC 6585 section 4, RFC 9110 section 15.6.4) and may carry Retry-After.
BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Explanation:
    """The parts of an error that do not depend on the endpoint's URL."""

    what: str
    actual: str
    hint: str


def explain_connection(error: httpx.RequestError) -> Explanation:
    """Explain why there is no connection to the endpoint, or why it broke."""
    # httpx and httpcore wrap the socket's own exception once each; only that one names the cause.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return Explanation(
                "cannot resolve the reference endpoint's host name",
                str(cause),
                "check the host in the url of `reference:`; does this machine reach its DNS server?",
            )
        if isinstance(cause, ssl.SSLError):
            return Explanation(
                "cannot establish a trusted TLS connection to the reference endpoint",
                str(getattr(cause, "verify_message", "") or cause.reason or cause),
                "is it https at all? for a private certificate authority set SSL_CERT_FILE=FILE.pem",
            )
        if isinstance(cause, ConnectionRefusedError):
            return Explanation(
                "connection refused by the reference endpoint",
                str(cause),
                "check that the backend is running and listens on this host and port",
            )
        cause = cause.__cause__ or cause.__context__
    return Explanation(
        "the connection to the reference endpoint failed",
        f"{type(error).__name__}: {error}",
        "check that the backend speaks HTTP (or https) on this port; its log may show more",
    )


def explain_status(status: int, message: str, *, attempts: int, key_hint: str, not_found_hint: str) -> Explanation:
    """Explain a response that is neither 2xx nor a redirect; `message` is the error in its body."""
    actual = f"HTTP {status}" + (f": {message}" if message else "")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Explanation("the reference endpoint denied access", actual, key_hint)
    if status == HTTPStatus.NOT_FOUND:
        return Explanation("the reference endpoint returned 404", actual, not_found_hint)
    if status in BUSY:
        count = f"{attempts} attempt{'s' if attempts > 1 else ''}"
        hint = "run the same command again when the backend has less to do"
        return Explanation(f"the reference endpoint is busy ({count})", actual, hint)
    return Explanation(f"the reference endpoint returned {status}", actual, "check the backend's log")
