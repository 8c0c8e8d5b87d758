"""verify_build: load the model in the workers' interpreter and compare it with the playbook."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict

from ragops.errors import NegativeVerdict
from ragops.facts import ModelFacts
from ragops.host import read_host
from ragops.llama.embedder import Embedder
from ragops.llama.fingerprint import fingerprint_of
from ragops.llama.verification import compare
from ragops.playbook.model import Playbook
from ragops.steps.context import Effect, StepContext
from ragops.workers.fleet import checked_sha256, embedder_config


def verify(playbook: Playbook, *, command: tuple[str, ...] | None = None) -> Effect:
    """What is effectively loaded, with findings and a verdict: `match` or `mismatch`.

    Raises UsageError without a model, ModelUnusable or EmbedderError when it cannot be loaded.
    """
    sha256 = checked_sha256(playbook)
    with Embedder(embedder_config(playbook, threads=1), command=command) as embedder:
        build, model = embedder.build, embedder.model
    host = read_host()
    findings = compare(playbook, build, model, host=host)
    identity, _ = fingerprint_of(build, model, playbook.model, sha256=sha256)
    return {
        "verdict": "mismatch" if any(f.severity == "error" for f in findings) else "match",
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
    }


def probe_model(playbook: Playbook) -> ModelFacts:
    """Facts of the playbook's model by its vocabulary alone, which takes no time. Raises as `verify` does."""
    config = dataclasses.replace(embedder_config(playbook, threads=1), vocab_only=True)
    with Embedder(config) as embedder:
        return embedder.model


def run(context: StepContext) -> Effect:
    """Raises NegativeVerdict on a mismatch."""
    effect = verify(context.playbook, command=context.embedder_command)
    refuse_mismatch(effect)
    build, model = effect["effective"]["build"], effect["effective"]["model"]
    context.voice.say(
        f"llama-cpp-python {build['package_version']}, {model['description']}, {model['pooling']} pooling"
    )
    return effect


def refuse_mismatch(effect: Effect) -> None:
    """Raise NegativeVerdict when the verdict is `mismatch`."""
    errors = [finding for finding in effect["findings"] if finding["severity"] == "error"]
    if errors:
        raise NegativeVerdict(
            "the build is not what the playbook asks for",
            where=effect["effective"]["build"]["python"],
            found="\n".join(finding["message"] for finding in errors),
            hint=errors[0]["hint"],
        )
