"""Compares what is loaded with what the playbook asks for. Pure: facts in, findings out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ragops.builds.cmake_flags import flag_findings, new_name, parse_flags, split_arguments
from ragops.builds.cpu_support import explain_illegal, host_flags, predict_illegal
from ragops.builds.features import compare_flags, unasked_features
from ragops.builds.library import LibraryDied, Probe, run_probe
from ragops.builds.log import unused_variables
from ragops.builds.records import RECORD
from ragops.facts import BuildFacts, HostFacts, ModelFacts
from ragops.findings import Finding
from ragops.playbook.model import Playbook

# Several requested parameters mean nothing until the library has clamped them.
_SHOWN_WHEN_CLAMPED = ("n_ctx", "n_batch", "n_ubatch")
_ORDER = {"error": 0, "warning": 1, "info": 2}


def compare(playbook: Playbook, build: BuildFacts, model: ModelFacts) -> tuple[Finding, ...]:
    """What differs from the playbook, and what the loaded library did with the parameters."""
    return (*_build(playbook, build), *_model(playbook, model), *_parameters(model), *_amx(build, model))


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


def recorded_arguments(python: Path) -> tuple[str, ...] | None:
    """The CMAKE_ARGS of a build: from its own record, else from the environment; pip keeps none."""
    # INTERPRETER lies in NAME/venv/bin or NAME\\venv\\Scripts, the record in NAME.
    for folder in list(python.absolute().parents)[1:3]:
        record = folder / RECORD
        if record.is_file():
            return tuple(json.loads(record.read_text(encoding="utf-8")).get("cmake_args", ()))
    given = os.environ.get("CMAKE_ARGS")
    return split_arguments([given]) if given else None


def inspect_build(python: Path, host: HostFacts) -> list[Finding]:
    """Findings about the interpreter's llama.cpp on this host, from a probe that loads no model.

    Raises LibraryDied, with the likely reason as its hint, when loading the library kills the probe;
    EmbedderError when there is no llama-cpp-python.
    """
    arguments = recorded_arguments(python)
    try:
        probe = run_probe(python)
    except LibraryDied as error:
        explained = explain_illegal(arguments or (), host, built_here=arguments is not None)
        error.hint = f"{explained.message}; {explained.hint}"
        raise
    findings = [*predict_illegal(probe.features, host), *host_flags(host, probe.features)]
    if arguments is None:
        message = (
            "nothing records where this build came from: a prebuilt wheel, or one that pip took from its cache, "
            "looks the same as one compiled here"
        )
        hint = "ragops build install   compiles one from source and keeps its CMAKE_ARGS"
        return [*findings, Finding("build-origin", "info", message, hint)]
    return [
        *findings,
        *flag_findings(arguments),
        *compare_flags(arguments, probe.features),
        *unasked_features(arguments, probe.features),
    ]


def findings_of(
    cmake_args: Sequence[str],
    probe: Probe,
    host: HostFacts,
    *,
    log: str = "",
    death: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Finding, ...]:
    """Asked against effective, effective against this CPU; `death` is the signal that loading ended by."""
    found = [
        *flag_findings(cmake_args),
        *_unused(cmake_args, log),
        *_from_environment(os.environ if environment is None else environment),
    ]
    if death is None:
        features = probe.features
        found += [*compare_flags(cmake_args, features), *unasked_features(cmake_args, features)]
        found += [*predict_illegal(features, host), *host_flags(host, features)]
    elif death == "SIGILL":
        found.append(explain_illegal(cmake_args, host))
    else:
        hint = "look at the end of the build's install.log, then install it again"
        found.append(Finding("library-died", "error", f"loading the library killed the probe: {death}", hint))
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.severity]))


def _unused(cmake_args: Sequence[str], log: str) -> Iterator[Finding]:
    """What CMake itself says it did not use; old names are told apart already."""
    asked = parse_flags(cmake_args)
    for name in unused_variables(log):
        if name in asked and new_name(name) is None:
            message = f"CMake did not use {name}: no such option in this version"
            yield Finding(
                f"flag-unused-{name.lower()}", "warning", message, "look for today's name, or leave it out"
            )


def _from_environment(environment: Mapping[str, str]) -> Iterator[Finding]:
    for name in ("CFLAGS", "CXXFLAGS"):
        machine = [word for word in environment.get(name, "").split() if word.startswith(("-m", "/arch"))]
        if machine:
            message = f"{name} of the environment chooses instruction sets too: {' '.join(machine)}"
            yield Finding(f"environment-{name.lower()}", "warning", message, f"unset {name} and install it again")
