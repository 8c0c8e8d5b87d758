"""Secrets in the URLs of reference endpoints: find them, and mask them where a URL is shown or stored."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

MASK = "***"
_SECRET_NAME = re.compile(r"key|token|secret|passw|pwd|auth|sig|cred|code|session", re.IGNORECASE)
# A long word of letters and digits is a key, whatever its name is. `{query}` and plain words are none.
_SECRET_VALUE = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[A-Za-z0-9_.~+/=%-]{16,}")


def shown_url(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    # Not urlsplit: a malformed URL, whose password contains a slash, must lose it as well.
    address = url.split("?", 1)[0].split("#", 1)[0]
    return re.sub(r"//.*@", "//", address)


def masked_url(url: str) -> str:
    """Return a URL without user, password and fragment, and with the secrets of its query masked."""
    parameters = url.split("#", 1)[0].partition("?")[2]
    masked = [_masked(parameter) for parameter in parameters.split("&")] if parameters else []
    return shown_url(url) + ("?" + "&".join(masked) if masked else "")


def _masked(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        return MASK if _SECRET_VALUE.fullmatch(name) else name
    is_secret = value != "{query}" and (_SECRET_NAME.search(name) or _SECRET_VALUE.fullmatch(value))
    return f"{name}={MASK}" if is_secret else parameter


def has_secret_parameter(url: str) -> bool:
    """Return whether the query of a URL has a parameter that is named like a secret."""
    names = [part.partition("=")[0] for part in url.partition("?")[2].split("&")]
    return any(_SECRET_NAME.search(name) for name in names)


def is_readable_on_the_way(url: str) -> bool:
    """Return whether a request to the URL crosses a network without TLS."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False  # malformed: it is refused elsewhere, before anything is sent
    if parts.scheme.lower() != "http":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return not (host == "localhost" or host.endswith(".localhost"))
