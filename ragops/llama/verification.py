"""Compares what is loaded with what the playbook asks for. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ragops.facts import BuildFacts, ModelFacts
from ragops.playbook.model import Playbook

Severity = Literal["error", "warning", "info"]
# Several requested parameters mean nothing until the library has clamped them.
_SHOWN_WHEN_CLAMPED = ("n_ctx", "n_batch", "n_ubatch")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that verification noticed; an `error` makes the verdict negative."""

    id: str
    severity: Severity
    message: str
    hint: str = ""


def compare(playbook: Playbook, build: BuildFacts, model: ModelFacts) -> tuple[Finding, ...]:
    """What differs from the playbook, and what the loaded library did with the parameters."""
    return (*_build(playbook, build), *_model(playbook, model), *_parameters(model), *_amx(build, model))


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings."""
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: order[finding.severity])


def is_feature_on(build: BuildFacts, name: str) -> bool:
    """Whether the loaded library reports a feature, e.g. `AVX2`; a name it does not print is off."""
    return build.features.get(name.upper(), "0") not in ("", "0")


def _build(playbook: Playbook, build: BuildFacts) -> Iterator[Finding]:
    wanted = playbook.build.version
    if wanted is not None and wanted != build.package_version:
        yield Finding(
            "build-version",
            "error",
            f"llama-cpp-python is {build.package_version}, the playbook needs {wanted}",
            f"ragops build install --version {wanted} --name aligned   then build.use: aligned in the playbook",
        )
    for name, must_be_on in sorted(playbook.build.features.items()):
        if is_feature_on(build, name) != must_be_on:
            state, needed = ("off", "on") if must_be_on else ("on", "off")
            yield Finding(
                f"build-feature-{name.lower()}",
                "error",
                f"{name} is {state} in the loaded library, the playbook needs it {needed}",
                f"rebuild with CMAKE_ARGS that set -DGGML_{name.upper()}={needed.upper()}, then ask again: "
                "requested flags are not effective flags",
            )


def _model(playbook: Playbook, model: ModelFacts) -> Iterator[Finding]:
    wanted = playbook.model
    if wanted.dimensions is not None and wanted.dimensions != model.dimensions:
        message = f"the model has {model.dimensions} dimensions, the playbook says {wanted.dimensions}"
        yield Finding("model-dimensions", "error", message, "name the right file in model.file")
    if wanted.pooling not in ("auto", model.pooling):
        message = f"pooling is {model.pooling}, the playbook says {wanted.pooling}"
        yield Finding("model-pooling", "error", message, "set model.pooling to what the backend uses")


def _parameters(model: ModelFacts) -> Iterator[Finding]:
    for name in _SHOWN_WHEN_CLAMPED:
        requested, effective = model.requested.get(name), model.effective.get(name)
        if requested is not None and effective is not None and requested != effective:
            message = f"{name}={requested} was asked for, {effective} is in effect"
            yield Finding(f"parameter-{name}", "info", message)


def _amx(build: BuildFacts, model: ModelFacts) -> Iterator[Finding]:
    """Builds of llama.cpp with AMX can crash in their first multiplication; ragops keeps off that path."""
    if any(name.startswith("AMX") for name in build.features) and not model.effective.get("use_extra_bufts"):
        yield Finding(
            "build-amx",
            "info",
            "this build uses AMX; ragops loads the model without repacked weights, which AMX needs, because some "
            "such builds crash on them",
            "ragops tune   tries them; a build of `ragops build install` does not crash. Other programs on this "
            "build may die by SIGSEGV: rebuild with -DGGML_AMX_INT8=OFF if one does",
        )
