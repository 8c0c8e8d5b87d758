"""Find references whose URL would show a secret to others."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from ragops.playbook.endpoints import has_secret_parameter, is_readable_on_the_way
from ragops.playbook.model import Reference
from ragops.playbook.problems import Place


def reference_problems(reference: Reference) -> Iterator[tuple[Place, str]]:
    """Yield why the reference's URL would show a secret to others, with its place in the playbook."""
    for kind, settings, setting in (
        ("openai", reference.openai, "api_key_env"),
        ("debug", reference.debug, "token_env"),
    ):
        if settings is None:
            continue
        variable = getattr(settings, setting)
        if _has_user(settings.url):
            message = f"a user or password in the URL is shown and stored with it; name a variable in {setting}"
            yield ("reference", kind, "url"), message
        has_secret = variable is not None or has_secret_parameter(settings.url)
        if has_secret and is_readable_on_the_way(settings.url) and not settings.allow_plaintext:
            message = "http:// sends the key in plain text; use https://, or set allow_plaintext: true beside it"
            yield ("reference", kind, "url"), message


def _has_user(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a host that is malformed
    except ValueError:
        # A slash in a password ends the host too early, and what precedes it is no port.
        return "@" in url.split("?", 1)[0]
    return "@" in parts.netloc
