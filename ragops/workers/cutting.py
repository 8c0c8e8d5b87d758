"""How the texts of a filling are cut into chunks: as it was recorded, and as a playbook would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, Self

from ragops.facts import ModelFacts
from ragops.playbook.model import Playbook

# How long texts are divided for the splitter (`documents/windows.py`); raised when that gives other chunks.
WINDOWS = 2
_PACKAGE = "semantic-text-splitter"

# Rows are plain text; files are Markdown or plain text by their names.
Kind = Literal["plain", "by_name"]


@dataclass(frozen=True, slots=True)
class Cutting:
    """What decides the chunks of a text and what is embedded of them; None: not recorded, by an older version."""

    max_tokens: int
    overlap_tokens: int
    prefix: str | None = None
    suffix: str | None = None
    kind: Kind | None = None
    splitter: str | None = None

    @classmethod
    def of(cls, playbook: Playbook, model: ModelFacts) -> Self:
        """Return how a fleet with this playbook and model cuts."""
        chunking, source = playbook.chunking, playbook.source
        return cls(
            max_tokens=min(model.max_tokens, chunking.max_tokens or model.max_tokens),
            overlap_tokens=chunking.overlap_tokens,
            prefix=playbook.model.document_prefix,
            suffix=playbook.model.document_suffix,
            kind="plain" if source.table or source.query or playbook.targets else "by_name",
            splitter=splitter_version(),
        )

    @classmethod
    def parse(cls, recorded: Mapping[str, object] | None) -> Self | None:
        """Return what a filling's record says; None if it says nothing."""
        if not recorded or not all(isinstance(recorded.get(key), int) for key in ("max_tokens", "overlap_tokens")):
            return None
        known = {field.name for field in fields(cls)}
        # A later version may have recorded more.
        return cls(**{key: value for key, value in recorded.items() if key in known})  # type: ignore[arg-type]

    def to_json(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def differences(self, other: Cutting) -> Iterator[tuple[str, object, object]]:
        """Yield what `other` has otherwise: its name here, the value here and that of `other`."""
        for field in fields(self):
            here, there = getattr(self, field.name), getattr(other, field.name)
            if here is not None and there is not None and here != there:
                yield field.name, here, there

    def within(self, playbook: Playbook) -> Playbook:
        """Return the playbook with the settings recorded here, for those who cut a text again."""
        chunking = playbook.chunking.model_copy(
            update={"max_tokens": self.max_tokens, "overlap_tokens": self.overlap_tokens}
        )
        affixes = {"document_prefix": self.prefix, "document_suffix": self.suffix}
        known = {key: value for key, value in affixes.items() if value is not None}
        model = playbook.model.model_copy(update=known)
        return playbook.model_copy(update={"chunking": chunking, "model": model})


def splitter_version() -> str:
    """Return what cuts texts in this version, and how long ones are divided for it."""
    try:
        package = version(_PACKAGE)
    except PackageNotFoundError:  # vendored, or frozen into a program
        package = "unknown"
    return f"{_PACKAGE} {package}, windows {WINDOWS}"
