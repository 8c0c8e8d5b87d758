"""Playbooks from text, and the problems of wrong ones."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ragops.errors import PlaybookError, Problem
from ragops.playbook import Playbook, load_playbook, parse_playbook

HEAD = "version: 1\nname: test\n"
SMALLEST = HEAD + "steps:\n  - step: verify_build\n"


def playbook(*lines: str, environment: Mapping[str, str] | None = None) -> Playbook:
    """The smallest playbook with lines added at its top level."""
    return parse_playbook("\n".join([SMALLEST.rstrip(), *lines]), file="p.yaml", environment=environment or {})


def with_steps(*steps: str, more: str = "") -> Playbook:
    """A playbook of steps in flow style, e.g. `{step: embed, until: 5}`."""
    return parse_playbook(steps_text(*steps, more=more), file="p.yaml", environment={})


def steps_text(*steps: str, more: str = "") -> str:
    """Its steps stand one a line, the first in line 4; `more` follows them."""
    return HEAD + "steps:\n" + "".join(f"  - {step}\n" for step in steps) + more


def realign(**environment: str) -> Playbook:
    """The shipped playbook."""
    return load_playbook("realign", environment=environment)


def problems_of(text: str, environment: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    """The problems of a wrong playbook."""
    with pytest.raises(PlaybookError) as caught:
        parse_playbook(text, file="p.yaml", environment=environment or {})
    error = caught.value
    assert error.exit_code == 2
    assert error.where == "p.yaml"
    assert error.actual == "\n".join(map(str, error.problems))
    return error.problems


def places_of(problems: tuple[Problem, ...]) -> list[tuple[str, int | None]]:
    return [(problem.path, problem.line) for problem in problems]
