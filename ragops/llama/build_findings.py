"""All that is to be said about a fresh build, errors first. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from ragops.facts import HostFacts
from ragops.llama.build_log import unused_variables
from ragops.llama.features import compare_flags, unasked_features
from ragops.llama.flags import flag_findings, new_name, parse_flags
from ragops.llama.illegal import explain_illegal, host_flags, predict_illegal
from ragops.llama.probing import Probe
from ragops.llama.verification import Finding

_ORDER = {"error": 0, "warning": 1, "info": 2}


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
