"""One filling of the queue gets vectors of one space: a fleet joins the first one's, or refuses to claim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ragops.embedder.client import Embedder
from ragops.errors import EmbedderDied, EmbedderError, RagopsError
from ragops.facts import TableFacts
from ragops.fingerprint.canaries import CanaryVectors, embed_canaries
from ragops.fingerprint.document import fingerprint_of
from ragops.playbook.model import Playbook
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.filling import Filling, claim_space, replace_space
from ragops.postgres.fingerprints import StoredFingerprint, load_fingerprint, save_fingerprint
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.quality.spaces import SpaceLimits, space_verdict
from ragops.workers.cutting import Cutting
from ragops.workers.database import Database
from ragops.workers.state import Stats, Stop
from ragops.workers.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Joined:
    """The vector space that a fleet writes."""

    fingerprint: str
    generation: int
    """Of the filling that it claims from."""
    known: frozenset[str]
    """The fingerprints whose vectors are known to belong together."""


class SpaceGuard:
    """Compare a fleet with the first one of its filling, before it claims anything."""

    def __init__(
        self,
        playbook: Playbook,
        tables: Mapping[str, TableFacts],
        database: Database,
        *,
        sha256: str,
        generation: int,
        is_campaign: bool,
        stop: Stop,
        stats: Stats,
    ) -> None:
        """`sha256` is the model file's; `generation` is that of the filling whose source the fleet reads.

        `is_campaign`: the fleet is that of the campaign which fills the queue.
        """
        self._playbook = playbook
        self._tables = tables
        self._database = database
        self._sha256 = sha256
        self._generation = generation
        self._is_campaign = is_campaign
        self._stop = stop
        self._stats = stats

    def join(self, supervisor: Supervisor) -> Joined:
        """Record the space of this fleet's children and compare it with the filling's.

        Raises RagopsError when the vectors would not belong together.
        """
        embedder, settings = supervisor.embedder, self._playbook.model
        id, document = fingerprint_of(embedder.build, embedder.model, settings, sha256=self._sha256)
        cutting = Cutting.of(self._playbook, embedder.model)
        stored = self._database.run(lambda connection: load_fingerprint(connection, id))
        canary = None if stored is not None and stored.canary else self._embed(supervisor)
        own = StoredFingerprint(document, canary.to_json() if canary else stored.canary if stored else None)
        self._database.run(lambda c: save_fingerprint(c, id=id, document=document, canary=own.canary))
        space: dict[str, Any] = {"fingerprint": id, "chunking": cutting.to_json()}
        filling = self._database.run(
            lambda c: claim_space(c, self._playbook.tables, generation=self._generation, **space)
        )
        alone = Joined(id, self._generation, frozenset({id}))
        if filling.generation != self._generation or filling.fingerprint is None:
            # The queue was filled again: the fetcher finds that out and says so.
            return alone
        cuts = self._cuts(filling, cutting)
        if filling.fingerprint == id:
            return self._take_over(filling, space, cuts) if cuts else alone
        first_id = filling.fingerprint
        first = self._database.run(lambda connection: load_fingerprint(connection, first_id))
        if first is None:
            return alone
        differences = [*_differences(first.document, document), *cuts]
        if differences:
            return self._take_over(filling, space, differences)
        return self._compare(filling, space, supervisor, first=first, fresh=canary)

    def _compare(
        self,
        filling: Filling,
        space: dict[str, Any],
        supervisor: Supervisor,
        *,
        first: StoredFingerprint,
        fresh: CanaryVectors | None,
    ) -> Joined:
        """Measure how far this build's vectors lie from those of the first fleet's build."""
        id, first_id = str(space["fingerprint"]), str(filling.fingerprint)
        build = self._playbook.build
        limits = SpaceLimits(build.max_drift, build.min_overlap)
        theirs = CanaryVectors.parse(first.canary) if first.canary else None
        ours = fresh or (self._embed(supervisor) if theirs else None)
        drift = ours.drift_from(theirs, limits) if ours and theirs else None
        if drift is None:
            # What cannot be measured is only named, by the fleet.
            return Joined(id, self._generation, frozenset({id}))
        verdict = space_verdict(drift, limits)
        largest = "no text has a distance" if drift.max is None else f"largest distance {drift.max:.2g}"
        measured = f"{verdict}, {largest} over {drift.texts} texts"
        if verdict == "divergent":
            own = f"build {_own_build(supervisor.embedder)}: {measured}"
            return self._take_over(filling, space, [(f"build {_build(first.document)}", own)])
        self._stats.info_once(
            f"these workers have another build than the first ones of this queue (fingerprint {id}, theirs is "
            f"{first_id}); the vectors of the two are {measured}"
        )
        return Joined(id, self._generation, frozenset({id, first_id}))

    def _take_over(self, filling: Filling, space: dict[str, Any], differences: list[tuple[str, str]]) -> Joined:
        """Take the first fleet's place if nothing was embedded yet. Raises RagopsError otherwise."""

        def act(connection: Connection) -> bool:
            def once() -> bool:
                with transaction(connection, lock_timeout_s=LOCK_TIMEOUT_S):
                    return replace_space(
                        connection,
                        self._playbook.tables,
                        generation=self._generation,
                        is_campaign=self._is_campaign,
                        **space,
                    )

            queue = self._tables.get("files_queue")
            return with_lock_retries(connection, once, tables=[queue] if queue else [])

        if self._database.run(act):
            id = str(space["fingerprint"])
            return Joined(id, self._generation + 1, frozenset({id}))
        raise RagopsError(
            "this command would mix two vector spaces: the first vectors of this queue were made in another one; "
            "nothing was claimed",
            where=f"{filling.queue}, generation {filling.generation}",
            actual="\n".join(own for _, own in differences),
            expected="\n".join(first for first, _ in differences),
            hint="give this command the model file and settings of the first one (RAGOPS_MODEL or model.file)"
            "   or, to embed everything with these: ragops reset --new",
        )

    def _embed(self, supervisor: Supervisor) -> CanaryVectors | None:
        """Embed the canary texts; None if the child cannot, which its documents will show."""
        try:
            return supervisor.ask(
                lambda embedder: embed_canaries(
                    embedder,
                    prefix=self._playbook.model.document_prefix,
                    suffix=self._playbook.model.document_suffix,
                    is_stopped=self._stop.requested.is_set,
                )
            )
        except EmbedderDied as death:
            supervisor.restart(death)
        except EmbedderError as error:
            self._stats.info_once(f"the canary texts cannot be embedded: {error.actual or error.what}")
        return None

    def _cuts(self, filling: Filling, own: Cutting) -> list[tuple[str, str]]:
        """Return how texts are cut, where that moves vectors; say where it may only move a boundary."""
        first = Cutting.parse(filling.chunking)
        found = {name: (theirs, ours) for name, theirs, ours in first.differences(own)} if first else {}
        if "splitter" in found:
            theirs, ours = found["splitter"]
            self._stats.info_once(f"the first workers of this queue cut texts by {theirs}, these by {ours}")
        decisive = [name for name in ("max_tokens", "overlap_tokens") if name in found]
        return [(f"chunking {name} {found[name][0]}", f"chunking {name} {found[name][1]}") for name in decisive]


def _differences(first: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what moves vectors whatever the build is, of the first fleet and of this one."""
    theirs, ours = first["identity"], own["identity"]
    for key in dict.fromkeys([*theirs["model"], *ours["model"]]):
        one, other = theirs["model"].get(key), ours["model"].get(key)
        if one == other:
            continue
        if key == "sha256":
            yield _file(first, one), _file(own, other)
        else:
            # Only where the playbook changes it: what a model does by itself is not recorded.
            named = [value or "as trained" if key == "attention" else value for value in (one, other)]
            yield f"model {key} {named[0]}", f"model {key} {named[1]}"
    for key in ("document_prefix", "document_suffix", "normalisation"):
        # Absent where it is empty, or where an older version stored it.
        one, other = theirs.get(key, ""), ours.get(key, "")
        if one != other:
            yield f"{key} {one!r}", f"{key} {other!r}"


def _file(document: Mapping[str, Any], sha256: object) -> str:
    return f"model file {document['model'].get('path')}, SHA-256 {sha256}"


def _build(document: Mapping[str, Any]) -> str:
    build = document["identity"]["build"]
    on = [name for name, value in build["features"].items() if value not in ("0", "")]
    return f"llama-cpp-python {build['package_version']} ({' '.join(on) or 'no feature'})"


def _own_build(embedder: Embedder) -> str:
    build = embedder.build
    return _build({"identity": {"build": {"package_version": build.package_version, "features": build.features}}})
