"""Secrets in the URLs of reference endpoints: masked where they are stored, refused where they leak."""

from __future__ import annotations

import json

import pytest

from ragops.cli.references import parse_reference
from ragops.errors import PlaybookError, UsageError
from ragops.playbook.endpoints import masked_url
from ragops.playbook.loading import parse_playbook
from ragops.playbook.model import Playbook

SECRET = "s3cr3t-0123456789abcdef"
HEAD = "version: 1\nname: x\nsteps: [{step: verify_build}]\nreference:\n"


def load(reference: str) -> Playbook:
    return parse_playbook(HEAD + reference, file="p.yaml", environment={})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/v1", "https://h/v1"),
        ("https://h/d?query={query}&limit=10", "https://h/d?query={query}&limit=10"),
        (f"https://h/d?query={{query}}&token={SECRET}", "https://h/d?query={query}&token=***"),
        ("https://h/d?api_key=abc&x-api-key=d&sig=e", "https://h/d?api_key=***&x-api-key=***&sig=***"),
        (f"https://h/d?z={SECRET}#{SECRET}", "https://h/d?z=***"),
        (f"https://h/d?{SECRET}", "https://h/d?***"),
        (f"https://bob:{SECRET}@h/d", "https://h/d"),
        (f"https://bob:{SECRET}/x@h/d?q=1", "https://h/d?q=1"),
    ],
)
def test_a_url_is_kept_without_its_secrets(url: str, shown: str) -> None:
    assert masked_url(url) == shown


def test_the_ledger_s_copy_has_no_key_of_a_url() -> None:
    playbook = load(f"  debug: {{url: 'https://h/d?q={{query}}&token={SECRET}'}}\n")
    assert SECRET in playbook.reference.debug.url  # type: ignore[union-attr]  # it is sent
    copy = playbook.ledger_copy()
    assert SECRET not in json.dumps(copy)
    Playbook.model_validate(json.loads(json.dumps(copy)), strict=False)


@pytest.mark.parametrize(
    ("kind", "settings", "part"),
    [
        ("openai", f"url: 'https://bob:{SECRET}@h/v1'", "api_key_env"),
        ("openai", f"url: 'https://{SECRET}@h/v1'", "api_key_env"),
        ("debug", f"url: 'https://bob:{SECRET}/x@h/{{query}}'", "token_env"),
        ("openai", "url: 'http://backend:8080/v1', api_key_env: K", "http:// sends the key in plain text"),
        ("openai", "url: 'http://10.0.0.7/v1', api_key_env: K", "allow_plaintext: true"),
        ("debug", "url: 'http://[fe80::1]/d?q={query}', token_env: K", "https://"),
        ("debug", f"url: 'http://b/d?q={{query}}&token={SECRET}'", "https://"),
    ],
)
def test_a_url_that_would_leak_a_secret_is_refused_with_its_line(kind: str, settings: str, part: str) -> None:
    with pytest.raises(PlaybookError) as caught:
        load(f"  {kind}: {{{settings}}}\n")
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == (f"reference.{kind}.url", 5)
    assert part in problem.message
    assert SECRET not in str(caught.value.as_dict())


@pytest.mark.parametrize(
    "settings",
    [
        "url: 'http://backend:8080/v1'",
        "url: 'https://backend/v1', api_key_env: K",
        "url: 'https://backend/v1/@default', api_key_env: K",
        "url: 'http://127.0.0.1:80/v1', api_key_env: K",
        "url: 'http://[::1]/v1', api_key_env: K",
        "url: 'http://localhost:80/v1', api_key_env: K",
        "url: 'http://backend/v1', api_key_env: K, allow_plaintext: true",
    ],
)
def test_urls_that_leak_nothing(settings: str) -> None:
    assert load(f"  openai: {{{settings}}}\n").reference.openai


@pytest.mark.parametrize("url", [f"https://u:{SECRET}@h/v1", f"http://h/d?q={{query}}&key={SECRET}"])
def test_against_refuses_them_too(url: str) -> None:
    with pytest.raises(UsageError, match="would show a secret") as caught:
        parse_reference(url)
    assert SECRET not in str(caught.value.as_dict())
