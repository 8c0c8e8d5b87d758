"""The ASGI app: the runbook's debug endpoint and the fingerprint, read only.

To mount it into a backend: `app.mount("/ragops", create_probe_app(target=…, playbook=…))`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ragops.embedder.errors import TextTooLong
from ragops.errors import RagopsError, UsageError
from ragops.playbook.model import Playbook
from ragops.postgres.connection import Target
from ragops.probe.comparer import QUERY_TIMEOUT_S, Comparer, EmbedderFactory, embedder_factory_of
from ragops.probe.exposure import KnownHost, public_document
from ragops.probe.responses import json_response, refusal

COMPARE_PATH = "/api/v3/debug/compare-rag-embedding"
FINGERPRINT_PATH = "/fingerprint"
# Several times the context of 512 tokens; a longer query cannot be embedded whole anyway.
MAX_QUERY_CHARACTERS = 4_000
# Queries that may wait for the embedder; beyond that 503 with Retry-After. One query scans the whole table, so
# that a longer queue would only collect requests whose clients have given up.
MAX_WAITING = 8

Fingerprint = Mapping[str, object] | Callable[[], Mapping[str, object]]


class ProbeEndpoints:
    """The handlers of the routes. Queries run one at a time, on one separate thread."""

    def __init__(self, comparer: Comparer, fingerprint: Fingerprint | None) -> None:
        self._comparer = comparer
        self._fingerprint = fingerprint
        # Not asyncio.to_thread: a mounted app must not use up its host's default pool of threads.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ragops-probe")
        self._waiting = 0
        self._is_closed = False

    def start(self) -> None:
        """Start the embedder before the first query. Raises EmbedderError, ModelUnusable, UsageError."""
        self._comparer.start()

    def close(self) -> None:
        """End the embedder; refuse all queries from now on, including those that are waiting."""
        self._is_closed = True
        self._comparer.close()
        self._thread.shutdown(wait=False)

    async def compare(self, request: Request) -> Response:
        """Handle GET …?query=…: distances as JSON, or 400, 413, 503 with `what` and `found`."""
        query = request.query_params.get("query", "").strip()
        if not query:
            error = RagopsError("the query is missing", expected="?query=TEXT")
            return refusal(error, status=400)
        if len(query) > MAX_QUERY_CHARACTERS:
            length, limit = f"{len(query):,} characters", f"at most {MAX_QUERY_CHARACTERS:,}"
            return refusal(RagopsError("the query is too long", actual=length, expected=limit), status=413)
        return await self._answer(lambda: self._comparer.compare(query))

    async def fingerprint(self, request: Request) -> Response:
        """Handle GET /fingerprint: the document given to `create_probe_app`, or 404.

        Paths, the interpreter and this machine's name are left out.
        """
        given = self._fingerprint
        if given is None:
            expected = "create_probe_app(…, fingerprint=…)"
            return refusal(RagopsError("this probe has no fingerprint", expected=expected), status=404)
        if callable(given):
            return await self._answer(lambda: public_document(given()))
        return json_response(public_document(given))

    async def _answer(self, work: Callable[[], Mapping[str, object]]) -> Response:
        """Run `work` on the thread and return its JSON, or the error with its status."""
        # No lock: handlers run on the event loop, and nothing awaits between a check and its change.
        if self._is_closed:
            return refusal(RagopsError("the probe is shutting down"), status=503)
        if self._waiting >= MAX_WAITING:
            error = RagopsError("the probe is busy", actual=f"{self._waiting} queries are waiting")
            return refusal(error, status=503, headers={"Retry-After": "2"})
        self._waiting += 1
        try:
            return json_response(await asyncio.wrap_future(self._thread.submit(work)))
        except TextTooLong as error:
            return refusal(error, status=413)
        except RagopsError as error:
            return refusal(error, status=503)
        finally:
            self._waiting -= 1


class BearerToken:
    """Middleware that lets only requests with the token through, whatever their path."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        # compare_digest: the time that `==` takes would reveal how many leading bytes are right.
        if scope["type"] != "http" or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
            return
        error = RagopsError("this probe needs a token", expected="the header Authorization: Bearer TOKEN")
        response = refusal(error, status=401, headers={"WWW-Authenticate": "Bearer"})
        await response(scope, receive, send)


def create_probe_app(
    *,
    target: Target,
    playbook: Playbook,
    embedder_factory: EmbedderFactory | None = None,
    token: str | None = None,
    fingerprint: Fingerprint | None = None,
    query_timeout_s: float = QUERY_TIMEOUT_S,
    allowed_hosts: Collection[str] | None = None,
) -> Starlette:
    """Return the app. The embedder starts with the first query, or with `app.state.probe.start()`.

    A server that runs the app ends the embedder at shutdown; if the app is mounted, call
    `app.state.probe.close()`. `query_timeout_s` limits the scan for one query. With `allowed_hosts`, requests
    whose Host is neither a loopback name nor one of these are refused. Raises UsageError for an empty token.
    """
    if token is not None and not token.strip():
        raise UsageError("the probe's token is empty", expected="a token, or None to require none")
    comparer = Comparer(
        target, playbook, embedder_factory or embedder_factory_of(playbook), timeout_s=query_timeout_s
    )
    probe = ProbeEndpoints(comparer, fingerprint)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # Starlette runs the lifespan of the outermost app only, not that of a mounted one.
        try:
            yield
        finally:
            probe.close()

    app = Starlette(
        routes=[
            Route(COMPARE_PATH, probe.compare, methods=["GET"]),
            Route(FINGERPRINT_PATH, probe.fingerprint, methods=["GET"]),
        ],
        middleware=[
            *([Middleware(KnownHost, hosts=allowed_hosts)] if allowed_hosts is not None else []),
            *([Middleware(BearerToken, token=token.strip())] if token else []),
        ],
        lifespan=lifespan,
    )
    app.state.probe = probe
    return app
