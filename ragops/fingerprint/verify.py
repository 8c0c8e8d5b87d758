"""Verify what the workers effectively load, against the playbook and against a reference."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ragops.builds.requirements import check_requirements, corrected_lines
from ragops.builds.verify import compare, inspect_build
from ragops.embedder.advice import model_advice
from ragops.embedder.client import Embedder
from ragops.embedder.config import Shape, checked_sha256, embedder_config
from ragops.embedder.errors import NO_VECTORS
from ragops.embedder.starting import open_embedder, use_child
from ragops.errors import ModelUnusable, NegativeVerdict
from ragops.facts import BuildFacts, HostFacts, ModelFacts
from ragops.findings import Finding, sorted_findings
from ragops.fingerprint.against import capture_own, compare_with, is_accepted, reference_name
from ragops.fingerprint.against_debug import DebugComparison
from ragops.fingerprint.batches import Batches, measure_batches
from ragops.fingerprint.compare import Comparison
from ragops.fingerprint.document import fingerprint_of
from ragops.fingerprint.queries import refuse_broken, refuse_unfitting
from ragops.host import read_exact_host
from ragops.playbook.model import Playbook, Reference

# The id of the finding that the model's vectors cannot be stored.
UNUSABLE = "unusable-vectors"


@dataclass(frozen=True, slots=True)
class Verification:
    """What is effectively loaded, with findings, and how its vector space compares with a reference's."""

    playbook: Playbook
    build: BuildFacts
    model: ModelFacts
    host: HostFacts
    fingerprint: str
    sha256: str | None
    findings: tuple[Finding, ...]
    matches: bool
    """Build, model and requirements are what the playbook asks for."""
    reference: str | None = None
    comparison: Comparison | None = None
    debug: DebugComparison | None = None
    corrected_requirements: str | None = None
    batches: Batches | None = None
    """The batches in which the workers embed, and why; None of a child that could not be asked."""

    @property
    def verdict(self) -> str:
        """`match` or `mismatch`; with a reference identical, equivalent or divergent."""
        if self.debug is not None:
            return self.debug.verdict
        if self.comparison is not None:
            return self.comparison.verdict
        return "match" if self.matches else "mismatch"

    @property
    def is_accepted(self) -> bool:
        """Whether build and model match and the space is at least what `build.accept` asks for."""
        return self.matches and (self.reference is None or is_accepted(self.verdict, self.playbook))

    def with_comparison(self, comparison: Comparison, *, reference: str | None) -> Verification:
        findings = (*comparison.findings, *self.findings)
        return replace(self, comparison=comparison, reference=reference, findings=findings)

    def with_debug(self, debug: DebugComparison) -> Verification:
        return replace(self, debug=debug, reference=debug.reference, findings=(*debug.findings, *self.findings))

    def with_requirements(self, file: Path) -> Verification:
        """Add the findings about a requirements file, and its corrected lines.

        Raises UsageError when the file cannot be read.
        """
        found = check_requirements(file)
        if not found:
            return self
        return replace(
            self,
            findings=(*self.findings, *found),
            matches=self.matches and not any(finding.severity == "error" for finding in found),
            corrected_requirements=corrected_lines(
                file, self.playbook.build.version or self.build.package_version
            ),
        )

    def refuse_mismatch(self) -> None:
        """Raise NegativeVerdict unless the verification is accepted."""
        if self.is_accepted:
            return
        errors = [finding for finding in self.findings if finding.severity == "error"]
        is_unusable = any(finding.id == UNUSABLE for finding in errors)
        accepted = self.playbook.build.accept
        is_divergent = self.reference is not None and not is_accepted(self.verdict, self.playbook)
        raise NegativeVerdict(
            NO_VECTORS
            if is_unusable
            else f"the workers' vector space is {self.verdict}, the playbook accepts {accepted}"
            if is_divergent
            else "the build is not what the playbook asks for",
            where=self.model.path if is_unusable else self.build.python,
            actual="\n".join(finding.message for finding in errors) or self.verdict,
            hint=errors[0].hint if errors else "ragops verify",
        )

    def to_json(self) -> dict[str, object]:
        playbook = self.playbook
        result: dict[str, object] = {
            "verdict": self.verdict,
            "build_matches": self.matches,
            "fingerprint": self.fingerprint,
            "effective": {
                "build": {**asdict(self.build), "features": dict(self.build.features)},
                "model": {**asdict(self.model), "sha256": self.sha256},
                "query_prefix": playbook.model.query_prefix,
                "document_prefix": playbook.model.document_prefix,
                "query_suffix": playbook.model.query_suffix,
                "document_suffix": playbook.model.document_suffix,
            },
            "requested": playbook.build.model_dump(mode="json")
            | {"model": playbook.model.model_dump(mode="json")},
            "batches": self.batches.to_json() if self.batches else None,
            "host": asdict(self.host),
            "findings": [finding.to_json() for finding in self.findings],
            "reference": self.reference,
            "drift": None,
        }
        if self.comparison is not None:
            compared = self.comparison.to_json()
            result |= {"drift": compared["drift"], "differences": compared["differences"]}
        if self.debug is not None:
            result |= {"drift": None, "distances": self.debug.distances()}
        if self.corrected_requirements is not None:
            result["corrected_requirements"] = self.corrected_requirements
        return result


def verify(
    playbook: Playbook,
    *,
    reference: Reference | None = None,
    command: tuple[str, ...] | None = None,
    shape: Shape | None = None,
    info: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Return what is effectively loaded, compared with the playbook's `build:` and `model:` and with a reference.

    `shape` is that of the fleet whose batches are measured; `info` is told of a child that somebody killed. A
    debug endpoint is compared elsewhere (`compare_with_debug`): it needs the database. Raises UsageError without a
    model and for queries that do not fit, ModelUnusable or EmbedderError when it cannot be loaded, RagopsError for
    a fault of the reference.
    """
    sha256 = checked_sha256(playbook)
    shape = shape or Shape()
    config = embedder_config(
        playbook, threads=shape.threads, tokens_per_batch=shape.tokens_per_batch, repack=shape.repack
    )
    host = read_exact_host()
    # Before the model is loaded: an illegal instruction is predicted, not met.
    inspected = inspect_build(Path(config.python or sys.executable), host) if command is None else []

    def look(embedder: Embedder) -> tuple[BuildFacts, ModelFacts, Batches | None, list[Finding]]:
        refuse_unfitting(embedder, playbook)
        return embedder.build, embedder.model, *_measured(embedder, playbook)

    build, model, batches, found = use_child(
        lambda: open_embedder(config, command=command),
        look,
        on_death=lambda death: info(f"{death.what}; going on with another one"),
    )
    inspected += found
    advice = model_advice(playbook.model, model)
    findings = tuple(sorted_findings([*compare(playbook, build, model), *advice, *inspected]))
    identity, _ = fingerprint_of(build, model, playbook.model, sha256=sha256)
    verification = Verification(
        playbook=playbook,
        build=build,
        model=model,
        host=host,
        fingerprint=identity,
        sha256=sha256,
        findings=findings,
        matches=not any(finding.severity == "error" for finding in findings),
        batches=batches,
    )
    if reference is None or not (reference.fingerprint or reference.openai) or batches is None:
        return verification
    comparison = compare_with(playbook, reference, capture_own(playbook, command=command), command=command)
    return verification.with_comparison(comparison, reference=reference_name(reference))


def _measured(embedder: Embedder, playbook: Playbook) -> tuple[Batches | None, list[Finding]]:
    """Return the batches of such workers, and what is wrong with the model's vectors or should be known."""
    try:
        batches = measure_batches(embedder, playbook, tokens_per_batch=embedder.config.tokens_per_batch)
        refuse_broken(embedder, playbook)
    except ModelUnusable as error:
        return None, [Finding(UNUSABLE, "error", f"{NO_VECTORS}: {error.actual}", error.hint or "")]
    finding = batches.finding()
    return batches, [finding] if finding else []
