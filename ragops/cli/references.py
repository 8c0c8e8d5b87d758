"""Parse the value of `--against`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ragops.errors import UsageError

if TYPE_CHECKING:
    from ragops.playbook.model import Reference


def parse_reference(text: str) -> Reference:
    """Return a fingerprint file, an OpenAI-compatible endpoint, or a debug endpoint (a URL with `{query}`).

    Raises UsageError for a file that does not exist and for a malformed URL.
    """
    # Only here: `--help` does without pydantic.
    from pydantic import ValidationError

    from ragops.playbook.leaks import reference_problems
    from ragops.playbook.model import DebugReference, OpenAIReference, Reference

    if not text.startswith(("http://", "https://")):
        path = Path(text)
        if not path.is_file():
            raise UsageError(
                "no such reference",
                where=text,
                expected="a fingerprint file, http(s)://HOST/v1, or a debug endpoint's URL with {query}",
                hint="ragops fingerprint capture -o FILE   on the backend, then: ragops verify --against FILE",
            )
        return Reference(fingerprint=path)
    try:
        if "{query}" in text:
            reference = Reference(debug=DebugReference(url=text))
        else:
            # The client appends /embeddings; people paste the URL that works in curl.
            reference = Reference(openai=OpenAIReference(url=text.removesuffix("/embeddings").rstrip("/")))
    except ValidationError as error:
        # Not str(error): it repeats the URL, which may contain a token.
        raise UsageError(
            "the reference's URL is malformed",
            where="--against",
            actual=error.errors(include_url=False)[0]["msg"].removeprefix("Value error, "),
            expected="http(s)://HOST/v1, or a debug endpoint's URL with {query}",
        ) from error
    for _, message in reference_problems(reference):
        raise UsageError(
            "the reference's URL would show a secret",
            where="--against",
            actual=message,
            expected="a URL without a key; `reference:` in a playbook names the variable that holds it",
            hint="ragops verify --playbook FILE   with reference.openai.api_key_env or reference.debug.token_env",
        )
    return reference
