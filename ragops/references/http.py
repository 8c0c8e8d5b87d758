"""The HTTP client of references: bounded in time and size, deaf to proxies, mute about keys."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from ragops.errors import RagopsError
from ragops.references.messages import message_in, safe_line, secrets_in, shown_url
from ragops.retry import Backoff

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_REDIRECTS = 3
PATIENCE = Backoff(first_s=0.5, longest_s=8.0, total_s=30.0)
_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
# What httpx raises for an address that cannot be one, by itself or from the layers below it.
_MALFORMED = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, OverflowError)


class ReferenceError(RagopsError):
    """The reference could not be asked, or its answer cannot be used."""

    status: int | None = None
    """The HTTP status, where an answer came."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer token, and where the playbook names the variable that holds it."""

    token: str | None
    setting: str
    """E.g. `reference.openai.api_key_env`."""
    variable: str | None


@dataclass(frozen=True, slots=True)
class _Answer:
    url: str
    status: int
    content: bytes
    location: str | None
    retry_after: str


class HttpClient:
    """Asks for JSON. Redirects are followed within one origin only; 429 and 503 are asked again.

    `timeout_s` bounds each request, `max_bytes` the size of an answer; `sleep` waits between attempts.
    """

    def __init__(
        self,
        credential: Credential,
        *,
        timeout_s: float,
        max_bytes: int = MAX_ANSWER_BYTES,
        backoff: Backoff = PATIENCE,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ReferenceError for a token that no header can carry."""
        self._credential = credential
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._backoff = backoff
        self._sleep = sleep
        self._token = _checked_token(credential)
        # Compressed answers are not asked for: their size could not be bounded before they are unpacked.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._client = httpx.Client(
            headers=headers,
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
            verify=_tls(),
            transport=transport,
            limits=httpx.Limits(keepalive_expiry=2.0),
        )

    def close(self) -> None:
        self._client.close()

    def ask(
        self, method: str, url: str, *, body: object = None, is_patient: bool = True, hint_404: str = ""
    ) -> Any:
        """The parsed JSON of a 2xx answer. Raises ReferenceError for everything else."""
        content = None if body is None else json.dumps(body).encode()
        delays = self._backoff.delays() if is_patient else iter(())
        attempts = 0
        while True:
            attempts += 1
            answer = self._follow(method, url, content)
            delay = next(delays, None) if answer.status in _BUSY else None
            if delay is None:
                break
            self._sleep(max(delay, self._asked_delay(answer)))
        if 200 <= answer.status < 300:
            return self._parse(answer)
        raise self._refusal(answer, attempts=attempts, hint_404=hint_404)

    def fault(
        self,
        what: str,
        url: str,
        *,
        actual: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
        status: int | None = None,
    ) -> ReferenceError:
        """An error about `url` that repeats no key."""
        secrets = {*secrets_in(url), *([self._token] if self._token else [])}
        shown = None if actual is None else safe_line(actual, secrets=secrets)
        error = ReferenceError(what, where=shown_url(url), actual=shown, expected=expected, hint=hint)
        error.status = status
        return error

    def _asked_delay(self, answer: _Answer) -> float:
        """The server's `Retry-After` in seconds, within the longest delay."""
        asked = float(answer.retry_after) if re.fullmatch(r"\d{1,6}", answer.retry_after) else 0.0
        return min(asked, self._backoff.longest_s)

    def _follow(self, method: str, url: str, content: bytes | None) -> _Answer:
        asked = url
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._send(method, asked, content)
            if not 300 <= answer.status < 400:
                return answer
            asked = self._redirected(answer)
        raise self.fault("the reference redirects in a circle", url, actual=f"more than {MAX_REDIRECTS} redirects")

    def _redirected(self, answer: _Answer) -> str:
        try:
            target = httpx.URL(answer.url).join(answer.location or "")
            has_same_origin = _origin(target) == _origin(httpx.URL(answer.url))
        except _MALFORMED:
            has_same_origin = False
        if answer.location and has_same_origin:
            return str(target)
        place = shown_url(answer.location) if answer.location else "nowhere"
        raise self.fault(
            "the reference redirects to another place, which ragops does not follow",
            answer.url,
            actual=f"HTTP {answer.status} to {place}",
            expected="an answer from the url of the playbook",
            hint="set the url in `reference:` to where the backend really is",
            status=answer.status,
        )

    def _send(self, method: str, url: str, content: bytes | None) -> _Answer:
        headers = {} if content is None else {"Content-Type": "application/json"}
        until = time.monotonic() + self._timeout_s
        try:
            with self._client.stream(method, url, content=content, headers=headers) as response:
                read = self._read(response, url, until=until)
                found = response.headers
                return _Answer(
                    url, response.status_code, read, found.get("location"), found.get("retry-after", "")
                )
        except _MALFORMED:
            # Its text may repeat a part of a password.
            raise self.fault(
                "the url of the reference is malformed", url, expected="http(s)://HOST:PORT/PATH"
            ) from None
        except httpx.TimeoutException as error:
            raise self._late(url, type(error).__name__) from None
        except httpx.RequestError as error:
            raise self._unreachable(url, error) from None

    def _read(self, response: httpx.Response, url: str, *, until: float) -> bytes:
        parts, size = [], 0
        for part in response.iter_bytes():
            size += len(part)
            if size > self._max_bytes:
                raise self.fault(
                    "the reference's answer is too large",
                    url,
                    actual=f"more than {self._max_bytes:,} bytes",
                    hint="is the url that of an endpoint, and not of a file or a stream?",
                )
            if time.monotonic() > until:
                raise self._late(url, "the answer was still coming")
            parts.append(part)
        return b"".join(parts)

    def _late(self, url: str, found: str) -> ReferenceError:
        return self.fault(
            "the reference does not answer in time",
            url,
            actual=found,
            expected=f"an answer within {self._timeout_s:g} s",
            hint="is the backend overloaded, or a firewall in between? `timeout_s` in `reference:` sets the limit",
        )

    def _unreachable(self, url: str, error: httpx.RequestError) -> ReferenceError:
        for cause in _causes(error):
            if isinstance(cause, socket.gaierror):
                hint = "check the host in the url of `reference:`"
                return self.fault("the reference's host has no address", url, actual=str(cause), hint=hint)
            if isinstance(cause, ssl.SSLError):
                found = str(getattr(cause, "verify_message", "") or cause.reason or cause)
                hint = "is it https at all? SSL_CERT_FILE=… names the certificate of an authority of your own"
                return self.fault("no trusted TLS connection to the reference", url, actual=found, hint=hint)
            if isinstance(cause, ConnectionRefusedError):
                hint = "does the backend run, and listen on this host and port?"
                return self.fault("the reference refuses connections", url, actual=str(cause), hint=hint)
        found = f"{type(error).__name__}: {error}"
        hint = "does the backend speak HTTP (or https) on this port? its log may say more"
        return self.fault("the connection to the reference failed", url, actual=found, hint=hint)

    def _parse(self, answer: _Answer) -> Any:
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError):
            raise self.fault(
                "the reference's answer is no JSON",
                answer.url,
                actual=message_in(answer.content) or "an empty answer",
                expected="a JSON object",
                hint="is the url that of the endpoint itself, and not of a web page?",
                status=answer.status,
            ) from None

    def _refusal(self, answer: _Answer, *, attempts: int, hint_404: str) -> ReferenceError:
        status = answer.status
        what, hint = f"the reference answers HTTP {status}", "the backend's log may say more"
        if status in (401, 403):
            what, hint = "the reference refuses access", self._key_hint()
        elif status == 404:
            what, hint = "the reference does not know this address", hint_404
        elif status in _BUSY:
            times = f"{attempts} times" if attempts > 1 else "once"
            what, hint = f"the reference is busy, asked {times}", "try again when the backend has less to do"
        said = message_in(answer.content)
        found = f"HTTP {status}" + (f": {said}" if said else "")
        return self.fault(what, answer.url, actual=found, hint=hint, status=status)

    def _key_hint(self) -> str:
        setting, variable = self._credential.setting, self._credential.variable
        if variable is None:
            return f"name the environment variable that holds the key in {setting}"
        if self._token is None:
            return f"no key was sent: set the environment variable {variable} ({setting})"
        return f"check the key in the environment variable {variable} ({setting})"


def _checked_token(credential: Credential) -> str | None:
    token = (credential.token or "").strip()
    if any(not 32 < ord(character) < 127 for character in token):
        raise ReferenceError(
            "the key for the reference cannot be sent",
            where=f"environment variable {credential.variable}" if credential.variable else credential.setting,
            actual="spaces, line breaks or characters outside ASCII",
            expected="a key as it goes into an Authorization header",
        )
    return token or None


def _tls() -> ssl.SSLContext:
    """The authorities that httpx brings and those of the system (or of SSL_CERT_FILE)."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
