"""The shipped playbooks for rows that stay: with variables, without them, and with empty ones."""

from __future__ import annotations

import pytest

from ragops.playbook import load_playbook
from ragops.playbook.names import TableName
from ragops.playbook.steps import CutOver, Embed, SelectRows, Validate

OPTIONAL = ("KEY", "WHERE", "NEW_COLUMN", "TYPE", "JUDGMENTS", "MODEL", "DSN")


@pytest.mark.parametrize("name", ["repair", "reembed"])
@pytest.mark.parametrize("environment", [{}, {f"RAGOPS_{word}": "" for word in OPTIONAL}], ids=["unset", "empty"])
def test_nothing_has_to_be_given(name: str, environment: dict[str, str]) -> None:
    made = load_playbook(name, environment=environment)
    (target,) = made.targets
    assert (target.table, target.text, target.embedding) == ("documents", "{content}", "embedding")
    assert (target.key, target.where, target.sql, target.type, target.changed_at) == ((), None, None, None, None)
    assert made.gates() == (1000,)
    # Gate, validation of what was written, the rest.
    at_gate = made.steps.index(Embed(step="embed", until=1000))
    assert made.steps[at_gate + 1] == Validate(step="validate", after=1000)


def test_repair_takes_its_variables() -> None:
    environment = {
        "RAGOPS_TABLE": 'kb."Doc Store"',
        "RAGOPS_TEXT": "{title}\n\n{body}",
        "RAGOPS_WHERE": "true",
        "RAGOPS_COLUMN": "body_embedding",
        "RAGOPS_KEY": "uid",
        "RAGOPS_TRIGGERS": "fire",
    }
    (target,) = load_playbook("repair", environment=environment).targets
    assert TableName.parse(target.table) == TableName("kb", "Doc Store")
    assert (target.text, target.where) == ("{title}\n\n{body}", "true")
    assert (target.embedding, target.key, target.triggers) == ("body_embedding", ("uid",), "fire")
    assert target.write == "in_place"


def test_repair_writes_what_is_missing_or_broken() -> None:
    (selected,) = (s for s in load_playbook("repair", environment={}).steps if isinstance(s, SelectRows))
    assert selected.rows == ("missing", "broken")


def test_reembed_exchanges_when_it_is_asked() -> None:
    environment = {"RAGOPS_COLUMN": "vec", "RAGOPS_TYPE": "halfvec", "RAGOPS_CUT_OVER": "ready"}
    made = load_playbook("reembed", environment=environment)
    (target,) = made.targets
    assert (target.write, target.filled_column, target.type) == ("beside", "vec_new", "halfvec")
    assert made.steps[-1] == CutOver(step="cut_over", when="ready")
    assert load_playbook("reembed", environment={}).steps[-1] == CutOver(step="cut_over", when="asked")
