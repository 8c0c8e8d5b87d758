"""The JSON Schema that editors check playbooks with agrees with the loader."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
import yaml

from ragops.playbook.loading import shipped_playbooks
from ragops.playbook.schema import playbook_schema


def errors(playbook: Any) -> list[str]:
    found = jsonschema.Draft202012Validator(playbook_schema()).iter_errors(playbook)
    return [".".join(map(str, error.path)) for error in found]


@pytest.mark.parametrize("path", sorted(shipped_playbooks().glob("*.yaml")), ids=lambda path: path.name)
def test_accepts_shipped_playbooks_with_their_variables(path: Any) -> None:
    assert errors(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("workers", "count", "three"), ("model", "pooling", "max"), ("chunking", "overlap_tokens", -1)],
)
def test_refuses_what_the_loader_refuses(section: str, key: str, value: object) -> None:
    base: dict[str, Any] = {"version": 1, "name": "x", "steps": [{"step": "embed"}]}
    assert errors(base) == []
    wrong = copy.deepcopy(base) | {section: {key: value}}
    assert errors(wrong) == [f"{section}.{key}"]


@pytest.mark.parametrize("word", ["auto", "planned", 3, "${COUNT:-auto}"])
def test_auto_and_its_alias_are_listed(word: object) -> None:
    parameters = {"parameters": {"n_threads": word}}
    workers = {"count": word, "tokens_per_batch": word}
    steps = [{"step": "embed"}]
    assert errors({"version": 1, "name": "x", "workers": workers, "model": parameters, "steps": steps}) == []
