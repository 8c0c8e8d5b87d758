"""Every way in which a reference cannot be asked is one clear error, and no key stands in it."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from loopback import Loopback, Reply, loopback, reply

from ragops.errors import ReferenceFailed
from ragops.playbook.endpoints import shown_url
from ragops.references import http
from ragops.references.http import Credential, HttpClient
from ragops.retry import Backoff

KEY = "sk-very-secret-key"
SETTING = "reference.openai.api_key_env"
AUTHORITY = """-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUBfhlJm58SxbvkD2OR3AmXoUmHlAwCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXQW4gYXV0aG9yaXR5IG9mIG91ciBvd24wIBcNMjYxMTIzMDQ0
NDU5WhgPMjEyNjEwMzAwNDQ0NTlaMCIxIDAeBgNVBAMMF0FuIGF1dGhvcml0eSBv
ZiBvdXIgb3duMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2KeZiZ2diLJq5gj9
NayjkSsGqf3Hs7ISl6PJywJ9ecGUAx+y7gIlKbiqb8FNWvjmHQqgslehtJ99kCbl
0g2+WKNTMFEwHQYDVR0OBBYEFFO04rgNEVNH7HO+ttprVFkBqRp4MB8GA1UdIwQY
MBaAFFO04rgNEVNH7HO+ttprVFkBqRp4MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZI
zj0EAwIDRwAwRAIgCyFC1mdlga6mhSgMuI/H6wDNbH35Ml8169MmPx+wx0kCIAq6
koO5E3qgv8xFB+MlYoCFZgImkdjKkJ3zg542jps+
-----END CERTIFICATE-----
"""


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as running:
        yield running


def client(*, token: str | None = KEY, variable: str | None = "BACKEND_KEY", **options: Any) -> HttpClient:
    options = {"timeout_s": 10.0, "backoff": Backoff(total_s=0.0), "allow_plaintext": True, **options}
    return HttpClient(Credential(token, SETTING, variable), **options)


def refused(asking: HttpClient, url: str, **options: Any) -> ReferenceFailed:
    with pytest.raises(ReferenceFailed) as caught:
        asking.request("GET", url, **options)
    error = caught.value
    shown = f"{error.as_dict()} {error!r} {error.__cause__!r}"
    assert KEY not in shown
    assert error.where is not None
    return error


def test_json_with_the_key_in_the_header_and_nowhere_else(server: Loopback) -> None:
    server.answers = [reply({"a": [1, None]})]
    assert client().request("GET", f"{server.url}/v1/models") == {"a": [1, None]}
    sent = server.requests[0]
    assert sent.headers["Authorization"] == f"Bearer {KEY}"
    assert (sent.method, sent.path, sent.headers["Accept-Encoding"]) == ("GET", "/v1/models", "identity")


@pytest.mark.parametrize("url", ["http://backend.invalid/v1", "http://10.255.255.1/v1"])
def test_a_key_is_not_sent_in_plain_text_to_another_machine(url: str) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={})

    plain = client(transport=httpx.MockTransport(answer), allow_plaintext=False)
    error = refused(plain, url)
    assert "plain text" in error.what
    assert not sent
    client(transport=httpx.MockTransport(answer)).request("GET", url)
    client(transport=httpx.MockTransport(answer), allow_plaintext=False, token=None).request("GET", url)
    assert len(sent) == 2


def test_without_a_key_no_header_is_sent(server: Loopback) -> None:
    client(token=" ").request("POST", server.url, body={"input": ["é"]})
    assert "Authorization" not in server.requests[0].headers
    assert server.requests[0].json == {"input": ["é"]}


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "clé"])
def test_a_key_that_no_header_carries_is_not_repeated(token: str) -> None:
    with pytest.raises(ReferenceFailed, match="cannot be sent") as caught:
        client(token=token)
    assert token not in str(caught.value.as_dict())
    assert caught.value.where == "environment variable BACKEND_KEY"


def test_environment_proxies_are_not_used(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert client().request("GET", server.url) == {}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_a_refused_connection() -> None:
    port = free_port()
    error = refused(client(), f"http://127.0.0.1:{port}/v1")
    assert error.what == "connection refused by the reference endpoint"
    assert error.where == f"http://127.0.0.1:{port}/v1"


def test_a_host_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = refused(client(), "http://backend.example/v1")
    assert error.what == "cannot resolve the reference endpoint's host name"
    assert error.actual is not None and "not known" in error.actual


@pytest.mark.parametrize(
    "url", ["http://u:sk-very-secret-key/x@host/v1", "http://[::1/v1", "http:///v1", "http://a..b/"]
)
def test_a_malformed_url(url: str) -> None:
    error = refused(client(), url)
    assert error.what == "the reference endpoint's url is malformed"


def test_no_answer_in_time(server: Loopback) -> None:
    release = threading.Event()
    server.answers = [Reply(wait=release)]
    error = refused(client(timeout_s=0.2), server.url)
    release.set()
    assert error.what == "the reference endpoint timed out"
    assert error.expected == "a response within 0.2 s"


def test_an_answer_that_trickles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(http, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    trickle = httpx.MockTransport(lambda _: httpx.Response(200, content=(b" " for _ in range(50))))
    error = refused(client(timeout_s=10.0, transport=trickle), "http://b/v1")
    assert (error.what, error.actual) == ("the reference endpoint timed out", "the response was still arriving")


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_headers_or_a_body_that_trickle_are_cut_off(start: bytes) -> None:
    """Each byte starts the limit of a read anew; a limit of the whole request has none."""
    gone = threading.Event()

    def trickle(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(start or b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ")
            for _ in range(200):  # ten seconds, then an answer
                connection.sendall(b"x")
                if gone.wait(0.05):
                    return
            connection.sendall(b"\r\n\r\n{}" if not start else b" " * 9999)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=trickle, args=(listening,), daemon=True)
        thread.start()
        error = refused(client(timeout_s=0.5), f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
        gone.set()
        thread.join()
    assert (error.what, error.expected) == ("the reference endpoint timed out", "a response within 0.5 s")


def test_a_compressed_answer_is_refused_unread(server: Loopback) -> None:
    server.answers = [Reply(200, gzip.compress(b"0" * 10_000_000), {"Content-Encoding": "gzip"})]
    error = refused(client(max_bytes=100_000), server.url)
    assert "compresses its response" in error.what
    assert error.actual == "Content-Encoding: gzip"


def test_no_tls_behind_an_https_url(server: Loopback) -> None:
    error = refused(client(), server.url.replace("http:", "https:"))
    assert error.what == "cannot establish a trusted TLS connection to the reference endpoint"
    assert error.hint is not None and "SSL_CERT_FILE" in error.hint


def test_a_certificate_that_nobody_trusts() -> None:
    def distrust(request: httpx.Request) -> httpx.Response:
        cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
        cause.verify_message = "self-signed certificate"
        raise httpx.ConnectError("handshake", request=request) from cause

    error = refused(client(transport=httpx.MockTransport(distrust)), "https://backend/v1")
    assert (error.what, error.actual) == (
        "cannot establish a trusted TLS connection to the reference endpoint",
        "self-signed certificate",
    )


def test_an_authority_of_the_environment_is_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "authority.pem"
    file.write_text(AUTHORITY)
    before = http._tls().get_ca_certs(binary_form=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    after = http._tls().get_ca_certs(binary_form=True)
    own = ssl.PEM_cert_to_DER_cert(AUTHORITY)
    assert own not in before
    assert own in after
    assert len(after) > 1


def test_a_connection_that_breaks_off(server: Loopback) -> None:
    server.answers = [Reply(body=b'{"data": []}', cut=3)]
    error = refused(client(), server.url)
    assert error.what == "the connection to the reference endpoint failed"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("token", "variable", "hint"),
    [
        (KEY, "BACKEND_KEY", "check the key in the environment variable BACKEND_KEY"),
        (None, "BACKEND_KEY", "no key was sent: set the environment variable BACKEND_KEY"),
        (None, None, f"name the environment variable that holds the key in {SETTING}"),
    ],
)
def test_access_refused(server: Loopback, status: int, token: str | None, variable: str | None, hint: str) -> None:
    server.answers = [reply({"error": {"message": f"bad key {token}"}}, status)]
    error = refused(client(token=token, variable=variable), server.url)
    assert (error.what, error.status) == ("the reference endpoint denied access", status)
    assert error.hint is not None and error.hint.startswith(hint)
    assert error.actual == f"HTTP {status}: bad key {'***' if token else None}"


def test_an_unknown_address_gives_the_hint_of_the_caller(server: Loopback) -> None:
    server.answers = [reply({"detail": "Not Found"}, 404)]
    error = refused(client(), server.url, hint_404="is /v1 in the url?")
    assert (error.actual, error.hint, error.status) == ("HTTP 404: Not Found", "is /v1 in the url?", 404)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server: Loopback, status: int) -> None:
    slept: list[float] = []
    server.answers = [reply({}, status), reply({}, status, **{"Retry-After": "3"}), reply({"ok": 1})]
    asking = client(backoff=Backoff(first_s=1.0, longest_s=5.0, total_s=60.0), sleep=slept.append)
    assert asking.request("GET", server.url) == {"ok": 1}
    assert len(slept) == 2
    assert 0.5 <= slept[0] <= 1.0
    assert slept[1] == 3.0


def test_a_server_that_stays_busy_is_given_up(server: Loopback) -> None:
    slept: list[float] = []
    server.answers = [reply({"error": "overloaded"}, 503, **{"Retry-After": "99999"})]
    asking = client(backoff=Backoff(first_s=1.0, longest_s=2.0, total_s=3.0), sleep=slept.append)
    error = refused(asking, server.url)
    assert len(slept) >= 2 and max(slept) <= 2.0
    assert error.what == f"the reference endpoint is busy ({len(slept) + 1} attempts)"
    assert len(server.requests) == len(slept) + 1
    assert error.actual == "HTTP 503: overloaded"


def test_an_impatient_question_is_asked_once(server: Loopback) -> None:
    server.answers = [reply({}, 503)]
    asking = client(backoff=Backoff(), sleep=lambda _: pytest.fail("slept"))
    assert refused(asking, server.url, is_patient=False).status == 503


def test_a_server_error_is_shown_on_one_printable_line(server: Loopback) -> None:
    server.answers = [Reply(500, f"Traceback\n \x1b[31m{KEY} boom {'x' * 500}".encode())]
    error = refused(client(), server.url)
    assert error.actual is not None
    assert error.actual.startswith("HTTP 500: Traceback [31m*** boom xxx")
    assert len(error.actual) == 200
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>hello", b'{"a": ', b"[" * 100_000, b"\xff\xfe"])
def test_no_json(server: Loopback, body: bytes) -> None:
    server.answers = [Reply(body=body)]
    error = refused(client(), server.url)
    assert (error.what, error.expected) == ("the reference endpoint's response is not JSON", "a JSON object")
    assert error.actual


def test_too_large_an_answer_is_not_read_to_its_end(server: Loopback) -> None:
    server.answers = [Reply(body=b" " * 200_000)]
    error = refused(client(max_bytes=1_000), server.url)
    assert (error.what, error.actual) == (
        "the reference endpoint's response is too large",
        "more than 1,000 bytes",
    )


def test_a_redirect_within_the_origin_is_followed(server: Loopback) -> None:
    server.answers = [Reply(307, headers={"Location": "/v1/embeddings/"}), reply({"ok": 1})]
    assert client().request("POST", f"{server.url}/v1/embeddings", body={"input": []}) == {"ok": 1}
    assert [(a.method, a.path, a.json) for a in server.requests] == [
        ("POST", "/v1/embeddings", {"input": []}),
        ("POST", "/v1/embeddings/", {"input": []}),
    ]


def test_a_redirect_to_another_place_carries_no_key_there(server: Loopback) -> None:
    with loopback() as other:
        server.answers = [Reply(302, headers={"Location": f"{other.url}/steal?x={KEY}"})]
        error = refused(client(), server.url)
        assert other.requests == []
    assert error.actual == f"HTTP 302 to {other.url}/steal"


def test_a_redirect_to_nowhere(server: Loopback) -> None:
    server.answers = [Reply(301)]
    error = refused(client(), server.url)
    assert (error.actual, error.status) == ("HTTP 301 to nowhere", 301)


def test_a_redirect_that_is_no_url(server: Loopback) -> None:
    server.answers = [Reply(301, headers={"Location": f"http://[::1?{KEY}"})]
    error = refused(client(), server.url)
    assert error.what == "the connection to the reference endpoint failed"
    assert error.actual is not None and "location" in error.actual


def test_a_circle_of_redirects(server: Loopback) -> None:
    server.answers = [Reply(302, headers={"Location": "/again"})]
    assert refused(client(), server.url).what == "too many redirects from the reference endpoint"


def test_secrets_of_the_url_are_not_shown(server: Loopback) -> None:
    url = server.url.replace("//", "//user:pass%40word1@") + "/debug?key=abc%20defgh&q=hi"
    server.answers = [Reply(500, b"GET /debug?key=abc%20defgh&q=hi by pass%40word1 (abc defgh, pass@word1)")]
    error = refused(client(token=None), url)
    assert error.where == f"{server.url}/debug"
    assert error.actual == "HTTP 500: GET /debug?key=***&q=hi by *** (***, ***)"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:1/v1?k=x#f", "http://h:1/v1"),
        ("https://a:b@h/v1", "https://h/v1"),
        ("http://a:b/c@h/v1", "http://h/v1"),
    ],
)
def test_a_url_for_people(url: str, shown: str) -> None:
    assert shown_url(url) == shown
