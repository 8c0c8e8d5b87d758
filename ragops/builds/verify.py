"""Compare what is loaded with what was requested: playbook, CMake arguments, this CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ragops.builds.cmake_flags import flag_findings, new_name, parse_flags, split_arguments
from ragops.builds.cpu_support import explain_illegal, host_flags, predict_illegal
from ragops.builds.features import compare_flags, is_enabled, unasked_features
from ragops.builds.library import LibraryDied, Probe, run_probe
from ragops.builds.log import unused_variables
from ragops.builds.standalone import recorded_cmake_args
from ragops.facts import BuildFacts, HostFacts, ModelFacts
from ragops.findings import Finding, sorted_findings
from ragops.playbook.model import Playbook

# llama.cpp clamps these to the model's context without failing (n_batch=2048 with n_ctx=512 becomes 512).
# Other requested parameters differ from the effective ones by design (`auto`).
_SHOWN_WHEN_CLAMPED = ("n_ctx", "n_batch", "n_ubatch", "tokens_per_batch")


def compare(playbook: Playbook, build: BuildFacts, model: ModelFacts) -> tuple[Finding, ...]:
    """Return what differs from the playbook, and what the loaded library did with the parameters."""
    findings = list(_build(playbook, build))
    expected = playbook.model
    if expected.dimensions is not None and expected.dimensions != model.dimensions:
        message = f"the model has {model.dimensions} dimensions, the playbook needs {expected.dimensions}"
        findings.append(Finding("model-dimensions", "error", message, "set model.file to the right file"))
    if expected.pooling not in ("auto", model.pooling):
        message = f"pooling is {model.pooling}, the playbook needs {expected.pooling}"
        findings.append(Finding("model-pooling", "error", message, "set model.pooling to the backend's"))
    for name in _SHOWN_WHEN_CLAMPED:
        requested, effective = model.requested.get(name), model.effective.get(name)
        if requested is not None and effective is not None and requested != effective:
            message = f"{name}={requested} was requested, {effective} is in effect"
            findings.append(Finding(f"parameter-{name}", "info", message))
    # Compiled by GCC 12 without the flags that `ragops build install` adds, such builds crash in the first
    # multiplication of repacked Q8_0 weights, so the child does not repack them unless it is told to.
    if any(name.startswith("AMX") for name in build.features) and not model.effective.get("use_extra_bufts"):
        message = (
            "this build uses AMX; ragops loads the model without repacked weights, which AMX needs, because some "
            "such builds crash on them"
        )
        hint = (
            "ragops tune   tries them; a build of `ragops build install` does not crash. Other programs on this "
            "build may die by SIGSEGV: rebuild with -DGGML_AMX_INT8=OFF if one does"
        )
        findings.append(Finding("build-amx", "info", message, hint))
    return tuple(findings)


def _build(playbook: Playbook, build: BuildFacts) -> Iterator[Finding]:
    version = playbook.build.version
    if version is not None and version != build.package_version:
        yield Finding(
            "build-version",
            "error",
            f"llama-cpp-python is {build.package_version}, the playbook needs {version}",
            f"ragops build install --version {version} --name aligned   then build.use: aligned in the playbook",
        )
    for name, must_be_on in sorted(playbook.build.features.items()):
        if is_enabled(build.features, name) != must_be_on:
            actual, expected = ("off", "on") if must_be_on else ("on", "off")
            yield Finding(
                f"build-feature-{name.lower()}",
                "error",
                f"{name} is {actual} in the loaded library, the playbook needs it {expected}",
                f"rebuild with CMAKE_ARGS that set -DGGML_{name.upper()}={expected.upper()}, then verify again: "
                "requested flags are not effective flags",
            )


def inspect_build(python: Path, host: HostFacts) -> list[Finding]:
    """Return findings about the interpreter's llama.cpp on this host, from a probe that loads no model.

    Raises LibraryDied, with the likely reason as its hint, if loading the library kills the probe;
    EmbedderError if there is no llama-cpp-python.
    """
    # The interpreter is in PREFIX/bin, or in PREFIX\\Scripts on Windows.
    recorded = recorded_cmake_args(python.absolute().parent.parent)
    arguments = None if recorded is None else split_arguments([recorded])
    try:
        probe = run_probe(python)
    except LibraryDied as error:
        explained = explain_illegal(arguments or (), host, built_here=arguments is not None)
        error.hint = f"{explained.message}; {explained.hint}"
        raise
    findings = [*predict_illegal(probe.features, host), *host_flags(host, probe.features)]
    if arguments is None:
        message = (
            "this build's CMAKE_ARGS are not recorded: a prebuilt wheel, or one from pip's cache, looks the same "
            "as one compiled here"
        )
        hint = "ragops build install   compiles one from source and records its CMAKE_ARGS"
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
    """Compare requested with effective, and effective with this CPU; `death` is the signal that ended loading."""
    findings = flag_findings(cmake_args)
    requested = parse_flags(cmake_args)
    for name in unused_variables(log):
        # Old names have their finding already; pip and scikit-build-core pass variables of their own.
        if name in requested and new_name(name) is None:
            message = f"CMake did not use {name}: this version has no such option"
            hint = "find today's name, or leave it out"
            findings.append(Finding(f"flag-unused-{name.lower()}", "warning", message, hint))
    environment = os.environ if environment is None else environment
    for name in ("CFLAGS", "CXXFLAGS"):
        switches = [word for word in environment.get(name, "").split() if word.startswith(("-m", "/arch"))]
        if switches:
            message = f"{name} in the environment selects instruction sets too: {' '.join(switches)}"
            hint = f"unset {name} and install the build again"
            findings.append(Finding(f"environment-{name.lower()}", "warning", message, hint))
    if death is None:
        features = probe.features
        findings += [*compare_flags(cmake_args, features), *unasked_features(cmake_args, features)]
        findings += [*predict_illegal(features, host), *host_flags(host, features)]
    elif death == "SIGILL":
        findings.append(explain_illegal(cmake_args, host))
    else:
        hint = "read the end of the build's install.log, then install it again"
        findings.append(Finding("library-died", "error", f"loading the library killed the probe: {death}", hint))
    return tuple(sorted_findings(findings))
