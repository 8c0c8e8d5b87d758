"""Decide whether a path, a program or an address that the database names may be used on this machine.

Whoever may write the tables of the schema `ragops` could otherwise have this machine read any of its files into
the database, start a program, or send an API key anywhere. A stored value counts if the command line's own
playbook says the same, or if this user stored it from this machine. The proof of that is a file here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ragops.errors import PlanRefused
from ragops.findings import PlanProblem
from ragops.paths import append_private, read_private, trust_file
from ragops.playbook.endpoints import masked_url
from ragops.playbook.model import Playbook, Reference, Source
from ragops.playbook.steps import Compare, SelectRows
from ragops.postgres.ownership import database_identity
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class _Difference:
    setting: str
    stored: object
    given: object

    def __str__(self) -> str:
        given = "nothing" if self.given in (None, False) else self.given
        return f"{self.setting}: the database says {self.stored}, the playbook says {given}"


def remember_playbook(session: Session, playbook: Playbook) -> None:
    """Note that this user started a campaign with this playbook."""
    _remember(session, _playbook_settings(playbook))


def remember_source(session: Session, source: Source) -> None:
    """Note that this user filled the queue from this source."""
    _remember(session, _source_settings(source))


def trusted_playbook(
    session: Session, stored: Playbook, *, campaign: int, command: str = "ragops reset --resume"
) -> Playbook:
    """Return a stored playbook that may run here. Raises PlanRefused if the database alone vouches for it."""
    given = session.playbook
    settings = _playbook_settings(stored)
    differences = list(_differences(settings, _playbook_settings(given)))
    if differences and not session.trust_stored and not _is_remembered(session, settings):
        raise _refusal(f"campaign {campaign} was started", command, differences, session)
    _remember(session, settings)
    return stored.model_copy(update={"reference": _with_keys(stored.reference, given.reference)})


def trusted_source(session: Session, stored: Source) -> Source:
    """Return a queue's stored source that may be read here. Raises PlanRefused like `trusted_playbook`."""
    settings = _source_settings(stored)
    differences = list(_differences(settings, _source_settings(session.playbook.source)))
    if differences and not session.trust_stored and not _is_remembered(session, settings):
        raise _refusal("the queue was filled", "ragops embed", differences, session)
    _remember(session, settings)
    return stored


def _refusal(event: str, command: str, differences: list[_Difference], session: Session) -> PlanRefused:
    trusting = f"   or, if you know these: {command} --trust-stored" if command.startswith("ragops") else ""
    return PlanRefused(
        f"{event} elsewhere, with other files, programs or addresses than this command's; nothing was used",
        where=session.target.label,
        expected="what the playbook of this command says, or what this user stored from this machine",
        hint=f"{command} --playbook FILE   with the same values{trusting}",
        problems=[PlanProblem(str(difference)) for difference in differences],
    )


def _differences(stored: Mapping[str, object], given: Mapping[str, object]) -> Iterator[_Difference]:
    """Yield what the database asks for and the playbook does not; what it does not ask for is harmless."""
    for setting, value in stored.items():
        if value not in (None, False) and value != given.get(setting):
            yield _Difference(setting, value, given.get(setting))


def _source_settings(source: Source) -> dict[str, object]:
    are_rows = source.table is not None
    return {
        "source.folder": _absolute(source.folder),
        "source.manifest": _absolute(source.manifest),
        "source.root": _absolute(source.root),
        "source.table": source.table,
        "source.id_column": source.id_column if are_rows else None,
        "source.text_column": source.text_column if are_rows else None,
        "source.query": source.query,
    }


def _playbook_settings(playbook: Playbook) -> dict[str, object]:
    """Return every key that names a file, a program, an address or a variable of this machine, or that is SQL."""
    openai, debug = playbook.reference.openai, playbook.reference.debug
    return {
        **_source_settings(playbook.source),
        "model.file": _absolute(playbook.model.file),
        "workers.python": _absolute(playbook.workers.python),
        "build.use": playbook.build.use,
        "reference.fingerprint": _absolute(playbook.reference.fingerprint),
        "reference.openai.url": masked_url(openai.url) if openai else None,
        "reference.openai.api_key_env": openai.api_key_env if openai else None,
        "reference.openai.allow_plaintext": openai.allow_plaintext if openai else False,
        "reference.debug.url": masked_url(debug.url) if debug else None,
        "reference.debug.token_env": debug.token_env if debug else None,
        "reference.debug.allow_plaintext": debug.allow_plaintext if debug else False,
        "database.allow_plaintext": playbook.database.allow_plaintext,
        **_row_settings(playbook),
    }


def _row_settings(playbook: Playbook) -> dict[str, object]:
    """Return the commands of hooks, the targets, which are or become SQL, and what steps say about their rows.

    Only what there is: what was remembered of a playbook without them stays valid.
    """
    steps = playbook.steps
    found: dict[str, object] = {
        "hooks.before_cut_over": list(playbook.hooks.before_cut_over),
        "hooks.after_cut_over": list(playbook.hooks.after_cut_over),
        "targets": [target.model_dump(mode="json") for target in playbook.targets],
        "select_rows.where": [step.where for step in steps if isinstance(step, SelectRows) and step.where],
        "compare.judgments": [_absolute(s.judgments) for s in steps if isinstance(s, Compare) and s.judgments],
    }
    return {setting: value for setting, value in found.items() if value}


def _absolute(path: Path | None) -> str | None:
    # Not resolved: where a link leads may change, and the reading refuses links inside a folder anyway.
    return None if path is None else os.path.normcase(path.absolute())


def _with_keys(stored: Reference, given: Reference) -> Reference:
    """Return the stored reference, with the given one's URL if they differ by the masked keys alone."""
    for kind in ("openai", "debug"):
        old, new = getattr(stored, kind), getattr(given, kind)
        if old is not None and new is not None and masked_url(old.url) == masked_url(new.url):
            stored = stored.model_copy(update={kind: old.model_copy(update={"url": new.url})})
    return stored


def _remember(session: Session, settings: Mapping[str, object]) -> None:
    mark = _mark(session, settings)
    try:
        if mark not in read_private(trust_file()).split():
            append_private(trust_file(), f"{mark}\n")
    except OSError as error:
        session.reporter.warning(
            f"{trust_file()} cannot be written ({error.strerror or error}): "
            "later commands need the same --playbook, or --trust-stored"
        )


def _is_remembered(session: Session, settings: Mapping[str, object]) -> bool:
    try:
        return _mark(session, settings) in read_private(trust_file()).split()
    except OSError as error:
        session.reporter.warning(f"{trust_file()} is not used: {error.strerror or error}")
        return False


def _mark(session: Session, settings: Mapping[str, object]) -> str:
    database = database_identity(session.target, session.connection)
    text = json.dumps([database, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
