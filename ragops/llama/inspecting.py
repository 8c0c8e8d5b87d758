"""Everything that a build says about itself before any model is loaded: asked for, effective, runnable here."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ragops.facts import HostFacts
from ragops.llama.builds import RECORD
from ragops.llama.features import compare_flags, unasked_features
from ragops.llama.flags import flag_findings, split_arguments
from ragops.llama.illegal import explain_illegal, host_flags, predict_illegal
from ragops.llama.probing import LibraryDied, run_probe
from ragops.llama.verification import Finding


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
