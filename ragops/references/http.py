"""HTTP client for reference endpoints: time and size limits, no proxies, credentials never shown."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from ragops.errors import ReferenceFailed
from ragops.playbook.endpoints import has_secret_parameter, is_readable_on_the_way, shown_url
from ragops.references.deadline import Deadline
from ragops.references.failures import BUSY, explain_connection, explain_status
from ragops.references.messages import message_in, safe_line, secrets_in
from ragops.retry import Backoff

# 16 vectors (a batch) of 4,096 numbers take about 1.3 MB as JSON.
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_REDIRECTS = 3
PATIENCE = Backoff(first_s=0.5, longest_s=8.0, total_s=30.0)
# What httpx and the layers below it raise for an address that cannot be one: UnicodeError from IDNA,
# OverflowError for a port beyond 65,535.
_MALFORMED = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, OverflowError)


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer token, and where the playbook names the variable that holds it."""

    token: str | None
    setting: str
    """E.g. `reference.openai.api_key_env`."""
    variable: str | None

    def checked_token(self) -> str | None:
        """Return the token without surrounding whitespace; None without one.

        Raises ReferenceFailed if a header cannot carry it.
        """
        token = (self.token or "").strip()
        # httpx would quote the token in its own error for such a header.
        if any(not 32 < ord(character) < 127 for character in token):
            raise ReferenceFailed(
                "the reference endpoint's key cannot be sent in an HTTP header",
                where=f"environment variable {self.variable}" if self.variable else self.setting,
                actual="spaces, line breaks or characters outside ASCII",
                expected="a key as it is written into an Authorization header",
            )
        return token or None

    def hint(self) -> str:
        """Return what to check if the endpoint denies access."""
        if self.variable is None:
            return f"name the environment variable that holds the key in {self.setting}"
        if not (self.token or "").strip():
            return f"no key was sent: set the environment variable {self.variable} ({self.setting})"
        return f"check the key in the environment variable {self.variable} ({self.setting})"


class UnusableResponse(ValueError):
    """JSON of another form than the endpoint's protocol."""

    def __init__(self, actual: str, expected: str) -> None:
        super().__init__(f"{actual}; expected: {expected}")
        self.actual = actual
        self.expected = expected


@dataclass(frozen=True, slots=True)
class _Response:
    url: str
    status: int
    content: bytes
    location: str | None
    retry_after: str


class HttpClient:
    """Requests JSON. Follows redirects within one origin only; repeats requests that get 429 or 503.

    `timeout_s` limits each request, `max_bytes` the size of a response; `sleep` waits between attempts.
    """

    def __init__(
        self,
        credential: Credential,
        *,
        timeout_s: float,
        allow_plaintext: bool = False,
        max_bytes: int = MAX_RESPONSE_BYTES,
        backoff: Backoff = PATIENCE,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ReferenceFailed for a token that no header can carry."""
        self._credential = credential
        self._timeout_s = timeout_s
        self._allow_plaintext = allow_plaintext
        self._max_bytes = max_bytes
        self._backoff = backoff
        self._sleep = sleep
        self._token = credential.checked_token()
        self._deadline = Deadline()
        # Without compression: the size of a compressed response is not bounded by the bytes that arrive.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._client = httpx.Client(
            headers=headers,
            timeout=timeout_s,
            # httpx would follow a redirect to any host.
            follow_redirects=False,
            # HTTP_PROXY and ~/.netrc are meant for the internet: texts and keys must not go to a proxy unasked.
            trust_env=False,
            verify=_tls(),
            transport=transport,
            # Uvicorn closes idle connections after 5 s. A request on one that it is closing would fail.
            limits=httpx.Limits(keepalive_expiry=2.0),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(
        self, method: str, url: str, *, body: object = None, is_patient: bool = True, hint_404: str = ""
    ) -> object:
        """Return the parsed JSON of a 2xx response. Raises ReferenceFailed for everything else."""
        self._check_plaintext(url)
        content = None if body is None else json.dumps(body).encode()
        delays = self._backoff.delays() if is_patient else iter(())
        attempts = 0
        while True:
            attempts += 1
            response = self._follow(method, url, content)
            delay = next(delays, None) if response.status in BUSY else None
            if delay is None:
                break
            # Retry-After may also be a date (RFC 9110 section 10.2.3); the backoff covers that.
            wanted = float(response.retry_after) if re.fullmatch(r"\d{1,6}", response.retry_after) else 0.0
            self._sleep(max(delay, min(wanted, self._backoff.longest_s)))
        message = message_in(response.content)
        if not 200 <= response.status < 300:
            why = explain_status(
                response.status,
                message,
                attempts=attempts,
                key_hint=self._credential.hint(),
                not_found_hint=hint_404,
            )
            raise self.failure(why.what, response.url, actual=why.actual, hint=why.hint, status=response.status)
        try:
            parsed: object = json.loads(response.content)
        except (ValueError, RecursionError):
            raise self.failure(
                "the reference endpoint's response is not JSON",
                response.url,
                actual=message or "an empty response",
                expected="a JSON object",
                hint="is the url that of the endpoint itself, not of a web page?",
                status=response.status,
            ) from None
        return parsed

    def _check_plaintext(self, url: str) -> None:
        """Raise ReferenceFailed before a key is sent to another machine without TLS."""
        has_secret = bool(self._token) or has_secret_parameter(url)
        if has_secret and is_readable_on_the_way(url) and not self._allow_plaintext:
            raise self.failure(
                "the reference endpoint's key would be sent in plain text; nothing was sent",
                url,
                actual="http:// to another machine",
                expected="https://, or http:// to this machine",
                hint="use the backend's https address, or set allow_plaintext: true in `reference:`",
            )

    def failure(
        self,
        what: str,
        url: str,
        *,
        actual: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
        status: int | None = None,
    ) -> ReferenceFailed:
        """Return an error about `url` in which every secret of the request is masked."""
        # Servers quote headers and query strings in their error pages.
        secrets = {*secrets_in(url), *([self._token] if self._token else [])}
        shown = None if actual is None else safe_line(actual, secrets=secrets)
        error = ReferenceFailed(what, where=shown_url(url), actual=shown, expected=expected, hint=hint)
        error.status = status
        return error

    def _follow(self, method: str, url: str, content: bytes | None) -> _Response:
        """Return the first response that is not a redirect within the origin."""
        target = url
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(method, target, content)
            if not 300 <= response.status < 400:
                return response
            try:
                here, there = httpx.URL(response.url), httpx.URL(response.url).join(response.location or "")
                has_same_origin = (here.scheme, here.host, here.port) == (there.scheme, there.host, there.port)
            except _MALFORMED:
                has_same_origin = False
            if not response.location or not has_same_origin:
                # The request carries a key, which must not reach another server.
                place = shown_url(response.location) if response.location else "nowhere"
                raise self.failure(
                    "the reference endpoint redirects to another origin, which ragops does not follow",
                    response.url,
                    actual=f"HTTP {response.status} to {place}",
                    expected="a response from the url in the playbook",
                    hint="set the url in `reference:` to the backend's own address",
                    status=response.status,
                )
            # The method stays the same, also for 301 and 302: a POST must not become a GET without texts.
            target = str(there)
        raise self.failure(
            "too many redirects from the reference endpoint", url, actual=f"more than {MAX_REDIRECTS} redirects"
        )

    def _send(self, method: str, url: str, content: bytes | None) -> _Response:
        headers = {} if content is None else {"Content-Type": "application/json"}
        with self._deadline.limit(self._timeout_s) as expired:
            try:
                return self._receive(method, url, content, headers)
            except ReferenceFailed:
                if expired.is_set():
                    raise self._timed_out(url, "the response was still arriving") from None
                raise

    def _receive(self, method: str, url: str, content: bytes | None, headers: dict[str, str]) -> _Response:
        until = time.monotonic() + self._timeout_s
        parts, size = [], 0
        trace = {"trace": self._deadline.watch}
        try:
            with self._client.stream(method, url, content=content, headers=headers, extensions=trace) as response:
                encoding = response.headers.get("content-encoding", "identity")
                if encoding.lower() != "identity":
                    # 64 KiB can stand for 64 MiB, and would be unpacked before they are counted.
                    raise self.failure(
                        "the reference endpoint compresses its response, although it was asked not to",
                        url,
                        actual=f"Content-Encoding: {encoding}",
                        expected="a response without compression, as Accept-Encoding: identity asks for",
                        hint="is a proxy in between that compresses? use the backend's own address",
                    )
                for part in response.iter_bytes():  # as they arrive: no encoding is left to undo
                    size += len(part)
                    if size > self._max_bytes:
                        raise self.failure(
                            "the reference endpoint's response is too large",
                            url,
                            actual=f"more than {self._max_bytes:,} bytes",
                            hint="is the url that of an endpoint, not of a file or a stream?",
                        )
                    if time.monotonic() > until:
                        raise self._timed_out(url, "the response was still arriving")
                    parts.append(part)
                got = response.headers
                location, retry_after = got.get("location"), got.get("retry-after", "")
                return _Response(url, response.status_code, b"".join(parts), location, retry_after)
        except _MALFORMED:
            # The exception's text may repeat a part of a password.
            raise self.failure(
                "the reference endpoint's url is malformed", url, expected="http(s)://HOST:PORT/PATH"
            ) from None
        except httpx.TimeoutException as error:
            raise self._timed_out(url, type(error).__name__) from None
        except httpx.RequestError as error:
            why = explain_connection(error)
            raise self.failure(why.what, url, actual=why.actual, hint=why.hint) from None

    def _timed_out(self, url: str, actual: str) -> ReferenceFailed:
        return self.failure(
            "the reference endpoint timed out",
            url,
            actual=actual,
            expected=f"a response within {self._timeout_s:g} s",
            hint="is the backend overloaded, or a firewall in between? `timeout_s` in `reference:` sets the limit",
        )


class Endpoint:
    """Base of the endpoints: owns the HTTP client."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def close(self) -> None:
        """Close the connections; the endpoint cannot be used afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tls() -> ssl.SSLContext:
    """Return a context that trusts the authorities of httpx (certifi) and of the system or SSL_CERT_FILE."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context
