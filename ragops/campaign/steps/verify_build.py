"""verify_build: what the workers' build is, whether it is the reference's space, whether a reset is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragops.campaign.completeness import missing_parts
from ragops.campaign.measure import Agreement, measure_stored
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.campaign.steps.reseed_queue import other_source
from ragops.embedder.advice import model_advice
from ragops.embedder.client import Embedder
from ragops.errors import NothingToReset
from ragops.fingerprint.against_debug import DebugComparison, compare_with_debug
from ragops.fingerprint.batches import unusable_model
from ragops.fingerprint.verify import Verification, verify
from ragops.playbook.model import DebugReference
from ragops.playbook.steps import VerifyBuild
from ragops.quality.soundness import unsound
from ragops.quality.vectors import normalize
from ragops.session import Session
from ragops.workers.sizing import shape_of, size_fleet


@dataclass(frozen=True, slots=True)
class VerifyResult:
    verification: Verification
    stored: Agreement | None
    """How what is stored agrees with the workers; None where nothing is stored."""
    is_compared: bool
    """The playbook empties tables, so that what is stored was looked at."""

    def to_json(self) -> dict[str, object]:
        stored = {"stored": self.stored.to_json() if self.stored else None} if self.is_compared else {}
        return {**self.verification.to_json(), **stored}


@dataclass(frozen=True, slots=True)
class VerifyBuildStep:
    settings: VerifyBuild

    def problems(self, facts: PlanFacts) -> Iterator[str]:
        yield from ()

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        advice = model_advice(facts.playbook.model, facts.model) if facts.model else ()
        return PlannedStep(
            number,
            self.settings.step,
            "verify the workers' build and the model",
            self.settings,
            notes=tuple(f"{finding.message}; to decide it: {finding.hint}" for finding in advice),
        )

    def run(self, run: Run) -> VerifyResult:
        """Verify, measure drift against the playbook's reference, and see whether a reset is needed at all.

        Raises NegativeVerdict on a mismatch or a verdict below `build.accept`, NothingToReset when what is
        stored agrees already.
        """
        session = run.session
        playbook = session.playbook
        verification = verify(
            playbook,
            reference=playbook.reference,
            command=session.embedder_command,
            shape=shape_of(size_fleet(playbook)),
            info=session.reporter.info,
        )
        if playbook.reference.debug is not None and _has_documents(session):
            verification = verification.with_debug(compare_debug(session, playbook.reference.debug))
        verification.refuse_mismatch()
        model, reporter = verification.model, session.reporter
        package = verification.build.package_version
        reporter.info(f"llama-cpp-python {package}, {model.description}, {model.pooling} pooling")
        for advice in model_advice(playbook.model, model):
            reporter.warning(f"{advice.message}; to decide it: {advice.hint}")
        finding = verification.batches.finding() if verification.batches else None
        if finding is not None:
            reporter.info(". ".join(filter(None, (finding.message, finding.hint))))
        if verification.reference is not None:
            drift = verification.comparison.drift if verification.comparison else None
            measured = f"max drift {drift.max:.2g}" if drift and drift.max is not None else "no drift measured"
            reporter.info(f"{verification.verdict} to {verification.reference} ({measured})")
        # Without a step that wipes there is nothing to be saved from.
        is_compared = any(step.step == "empty_tables" for step in playbook.steps)
        stored = compare_with_stored(run) if is_compared else None
        result = VerifyResult(verification, stored, is_compared)
        session.through_outages(lambda: run.record(result))
        return result


def compare_debug(session: Session, settings: DebugReference) -> DebugComparison:
    """Compare the workers' distances with those of a debug endpoint. Raises RagopsError for a fault of it."""

    def embed_query(query: str) -> NDArray[np.float32]:
        model = session.playbook.model
        prefixed, suffix = model.query_prefix + query, model.query_suffix

        def embed(embedder: Embedder) -> NDArray[np.float32]:
            raw = embedder.embed([prefixed], suffix=suffix).vectors
            if (fault := unsound(raw, [query])) is not None:
                raise unusable_model(embedder, fault)
            return raw

        unit: NDArray[np.float32] = normalize(session.with_embedder(embed))[0]
        return unit

    max_drift = session.playbook.build.max_drift
    return compare_with_debug(settings, embed_query=embed_query, reader=session.reader, max_drift=max_drift)


def compare_with_stored(run: Run) -> Agreement | None:
    """Embed a sample of stored rows again; None when nothing is stored.

    Raises NothingToReset when every one agrees, unless the operator insists (`--force`).
    """
    session = run.session
    if not _has_documents(session):
        return None
    agreement = session.with_embedder(lambda embedder: measure_stored(session, embedder))
    if agreement.disagreeing or agreement.rows == 0:
        session.reporter.info(
            f"{agreement.disagreeing} of {agreement.rows} sampled vectors disagree with what is stored"
        )
        return agreement
    measured = f"{agreement.rows} sampled vectors agree with what is stored (max distance {agreement.largest:.2g})"
    session.reporter.info(measured)
    other = other_source(session)
    if agreement.changed and not run.force:
        changed = "; ".join(agreement.changed)
        session.reporter.info(f"what is stored was cut with other settings: {changed}: going on")
    elif other is not None:
        session.reporter.info(f"what is stored comes from {other}, the playbook names another source: going on")
    elif not run.force and (missing := missing_parts(session)):
        session.reporter.info(f"the corpus is not complete: {'; '.join(missing)}: going on")
    elif not run.force:
        raise NothingToReset(
            "nothing to reset: what is stored is what these workers would store again",
            where=session.target.label,
            actual=measured,
            hint="look at indexes, filters and thresholds: ragops validate, ragops index status; "
            "to reset all the same: ragops reset --force",
        )
    return agreement


def _has_documents(session: Session) -> bool:
    return session.read(lambda reader: reader.counts("documents")).total > 0
