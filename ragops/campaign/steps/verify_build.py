"""verify_build: what the workers' build really is, whether it is the reference's space, and whether a
reset is needed at all."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragops.builds.verify import compare, inspect_build
from ragops.campaign.context import Effect, StepContext
from ragops.campaign.steps import validate
from ragops.campaign.steps.reseed_queue import other_source
from ragops.embedder.client import Embedder
from ragops.embedder.config import checked_sha256, embedder_config, side_threads
from ragops.errors import NegativeVerdict, NothingToReset
from ragops.facts import ModelFacts
from ragops.findings import sorted_findings
from ragops.fingerprint.against import capture_own, compare_with, comparison_as_dict, is_accepted, reference_name
from ragops.fingerprint.against_debug import add_debug_comparison
from ragops.fingerprint.document import fingerprint_of
from ragops.host import read_exact_host
from ragops.playbook.model import Playbook, Reference
from ragops.playbook.steps import EmptyTables
from ragops.postgres.queue import Queue


def verify(
    playbook: Playbook, *, reference: Reference | None = None, command: tuple[str, ...] | None = None
) -> Effect:
    """What is effectively loaded, with findings and a verdict.

    Without a reference the verdict is `match` or `mismatch` (with the playbook's `build:` and `model:`),
    with one it is that of the vector space: `identical`, `equivalent` or `divergent`. Raises UsageError
    without a model, ModelUnusable or EmbedderError when it cannot be loaded, RagopsError for a fault of
    the reference.
    """
    sha256 = checked_sha256(playbook)
    config = embedder_config(playbook, threads=1)
    host = read_exact_host()
    # Before the model is loaded: an illegal instruction is foretold, not met.
    inspected = inspect_build(Path(config.python or sys.executable), host) if command is None else []
    with Embedder(config, command=command) as embedder:
        build, model = embedder.build, embedder.model
    findings = sorted_findings([*compare(playbook, build, model), *inspected])
    identity, _ = fingerprint_of(build, model, playbook.model, sha256=sha256)
    matches = not any(f.severity == "error" for f in findings)
    effect: Effect = {
        "verdict": "match" if matches else "mismatch",
        "build_matches": matches,
        "fingerprint": identity,
        "effective": {
            "build": {**asdict(build), "features": dict(build.features)},
            "model": {**asdict(model), "sha256": sha256},
            "query_prefix": playbook.model.query_prefix,
            "document_prefix": playbook.model.document_prefix,
        },
        "requested": playbook.build.model_dump(mode="json") | {"model": playbook.model.model_dump(mode="json")},
        "host": asdict(host),
        "findings": [asdict(finding) for finding in findings],
        "reference": None,
        "drift": None,
    }
    if reference is not None and (reference.fingerprint or reference.openai):
        _add_comparison(effect, playbook, reference, command)
    return effect


def _add_comparison(
    effect: Effect, playbook: Playbook, reference: Reference, command: tuple[str, ...] | None
) -> None:
    comparison = compare_with(playbook, reference, capture_own(playbook, command=command), command=command)
    compared = comparison_as_dict(comparison)
    effect["findings"] = [*compared.pop("findings"), *effect["findings"]]
    effect |= compared | {"reference": reference_name(reference)}


def probe_model(playbook: Playbook) -> ModelFacts:
    """Facts of the playbook's model by its vocabulary alone, which takes no time. Raises as `verify` does."""
    config = dataclasses.replace(embedder_config(playbook, threads=1), vocab_only=True)
    with Embedder(config) as embedder:
        return embedder.model


def run(context: StepContext) -> Effect:
    """Verify, measure drift against the playbook's reference, and see whether a reset is needed at all.

    Raises NegativeVerdict on a mismatch or a verdict below `build.accept`, NothingToReset when what is
    stored agrees already.
    """
    effect = verify(context.playbook, reference=context.playbook.reference, command=context.embedder_command)
    if context.playbook.reference.debug is not None and _has_documents(context):
        add_debug_comparison(effect, context, context.playbook.reference.debug)
    refuse_mismatch(effect, context.playbook)
    build, model = effect["effective"]["build"], effect["effective"]["model"]
    context.reporter.info(
        f"llama-cpp-python {build['package_version']}, {model['description']}, {model['pooling']} pooling"
    )
    if effect["reference"]:
        drift = f"max drift {effect['drift']['max']:.2g}" if effect["drift"] else "no drift measured"
        context.reporter.info(f"{effect['verdict']} to {effect['reference']} ({drift})")
    if any(isinstance(step, EmptyTables) for step in context.playbook.steps):
        effect["stored"] = compare_with_stored(context)
    return effect


def compare_with_stored(context: StepContext) -> dict[str, Any] | None:
    """Embed a sample of stored rows again; None when nothing is stored.

    Raises NothingToReset when every one agrees, unless the operator insists (`--force`).
    """
    if not _has_documents(context):
        return None
    with Embedder(
        embedder_config(context.playbook, threads=side_threads()), command=context.embedder_command
    ) as embedder:
        found = validate.measure_stored(context, embedder)
    if found["disagreeing"] or found["rows"] == 0:
        context.reporter.info(
            f"{found['disagreeing']} of {found['rows']} sampled vectors disagree with what is stored"
        )
        return found
    measured = f"{found['rows']} sampled vectors agree with what is stored (max distance {found['max']:.2g})"
    context.reporter.info(measured)
    other = other_source(context, Queue(context.connection, context.playbook.tables))
    if other is not None:
        context.reporter.info(f"what is stored comes from {other}, the playbook names another source: going on")
    elif not context.force:
        raise NothingToReset(
            "nothing to reset: what is stored is what these workers would store again",
            where=context.target.label,
            actual=measured,
            hint="look at indexes, filters and thresholds: ragops validate, ragops index status; "
            "to reset all the same: ragops reset --force",
        )
    return found


def _has_documents(context: StepContext) -> bool:
    documents = context.facts(exact=True).tables["documents"]
    return documents is not None and documents.rows > 0


def refuse_mismatch(effect: Effect, playbook: Playbook) -> None:
    """Raise NegativeVerdict when build or model mismatch, or the space is below `build.accept`."""
    errors = [finding for finding in effect["findings"] if finding["severity"] == "error"]
    is_divergent = effect["reference"] and not is_accepted(effect["verdict"], playbook)
    if effect["build_matches"] and not is_divergent:
        return
    raise NegativeVerdict(
        f"the workers' vector space is {effect['verdict']}, the playbook accepts {playbook.build.accept}"
        if is_divergent
        else "the build is not what the playbook asks for",
        where=effect["effective"]["build"]["python"],
        actual="\n".join(finding["message"] for finding in errors) or effect["verdict"],
        hint=errors[0]["hint"] if errors else "ragops verify",
    )
