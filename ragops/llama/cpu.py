"""What this machine's CPU says it can run, beside the model line that it resembles."""

from __future__ import annotations

from dataclasses import replace

from ragops.facts import HostFacts
from ragops.host import read_host


def read_exact_host() -> HostFacts:
    """The host with every feature that the CPU itself reports.

    The features of a microarchitecture (`icelake`) are those that all its CPUs share; newer sets that
    this CPU has as well (AVX-VNNI, AMX) are missing there, and nothing may be called illegal for that.
    """
    host = read_host()
    return replace(host, features=tuple(sorted({*host.features, *_reported()})))


def _reported() -> set[str]:
    from archspec.cpu import detect

    return {str(name) for name in detect.detected_info().features}
