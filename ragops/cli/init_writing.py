"""Prove and write the playbook of `ragops init`."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragops.cli.init_choices import Drafted
from ragops.cli.questions import Questions, ask
from ragops.errors import UsageError

if TYPE_CHECKING:
    from ragops.introspection.gathering import Gathered
    from ragops.introspection.outcome import InitResult
    from ragops.postgres.connection import Target
    from ragops.session import Session


def check_free(output: Path | None, *, force: bool) -> None:
    """Raise UsageError for a file that exists, unless it may be overwritten, and for a folder that does not."""
    if output is not None and not output.parent.is_dir():
        raise UsageError("the folder does not exist", where=str(output.parent), hint="make it, or another -o FILE")
    if output is not None and output.exists() and not force:
        raise UsageError(
            "the file exists, and is not overwritten",
            where=str(output),
            hint="--force overwrites it; or another name: -o FILE",
        )


def prove_and_write(
    session: Session,
    gathered: Gathered,
    drafted: Drafted,
    questions: Questions,
    *,
    output: Path | None,
    force: bool,
    dsn: str | None,
) -> InitResult:
    """Plan what the playbook says, write it, and return what is known. Writes nothing that cannot be parsed."""
    from ragops import __version__
    from ragops.introspection.gathering import untouched, warnings
    from ragops.introspection.outcome import InitResult
    from ragops.introspection.proving import prove
    from ragops.introspection.writing import write_playbook
    from ragops.playbook import parse_playbook

    draft = drafted.draft
    file = output or Path(f"{draft.campaign}.yaml")
    is_forced = force
    if file.exists() and not force:
        if not questions.asks:
            check_free(file, force=False)
        answer = ask(f"{file} exists. Overwrite it? Type yes, or another name", "no")
        is_forced = answer.lower() in ("y", "yes")
        if not is_forced:
            if answer.lower() in ("n", "no"):
                raise UsageError("not written; nothing was changed", hint="-o FILE, or --force")
            file = Path(answer)
            check_free(file, force=False)
    text = write_playbook(draft, file=str(file), written_by=f"ragops init ({__version__})")
    # As the next command reads it: variables of the environment count there, too.
    playbook = parse_playbook(text, file=str(file), environment=os.environ)
    proof = prove(session.with_playbook(playbook), plan=_plan)
    _write(file, text, force=is_forced)
    recognised = gathered.recognised
    place = f"ragops reset --playbook {shlex.quote(str(file))}"
    return InitResult(
        file=str(file),
        campaign=draft.campaign,
        database=session.target.label,
        column=gathered.describe(),
        client=f"{recognised.client} ({recognised.why})" if recognised else None,
        decisions=tuple(questions.decisions),
        also=recognised.also if recognised else (),
        # The plan looks closer at what the catalog has, and says it in its notes.
        warnings=(*drafted.notes, *(_without_untouched(proof.notes) or warnings(gathered))),
        untouched=tuple(untouched(gathered, playbook.targets[0] if playbook.targets else None)),
        texts=tuple(drafted.texts),
        measured=drafted.measured,
        measured_lines=drafted.measured_lines,
        planned=proof.is_planned,
        steps=tuple(step.step for step in playbook.steps),
        problems=proof.problems,
        next=f"{_variables(session.target, dsn, needs_model=draft.model is None)}{place} --dry-run",
    )


def _without_untouched(notes: Sequence[str]) -> tuple[str, ...]:
    """Return a plan's notes without those that say what stays as it is, which has a part of its own."""
    return tuple(note for note in notes if not note.startswith("not touched:"))


def _variables(target: Target, dsn: str | None, *, needs_model: bool) -> str:
    """Return the assignments that the next command needs before it; a password is not repeated."""
    parts: list[str] = []
    if dsn is not None:
        parts.append("RAGOPS_DSN=…" if "password" in target.conninfo else f"RAGOPS_DSN={shlex.quote(dsn)}")
    elif not target.is_embedded and not os.environ.get("RAGOPS_DSN"):
        parts.append("RAGOPS_DSN=…")
    if needs_model:
        parts.append("RAGOPS_MODEL=FILE.gguf")
    return "".join(f"{part} " for part in parts)


def _plan(session: Session) -> list[str]:
    """Plan the campaign as `ragops reset --dry-run` does; return its notes."""
    from ragops.cli.campaign import prepare_plan

    plan = session.through_outages(lambda: prepare_plan(session))
    return list(plan.notes)


def _write(file: Path, text: str, *, force: bool) -> None:
    """Write the file in one move, so that an interrupted command leaves no half of it."""
    folder = file.parent
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{file.name}.", suffix=".new")
    written = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        written.chmod(0o644)
        if not force and file.exists():
            check_free(file, force=False)
        written.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            written.unlink()
        raise
