"""What a stored playbook may bring to this machine: commands and SQL only if this machine has stored them."""

from __future__ import annotations

from ragops.campaign.trust import _playbook_settings
from ragops.playbook import Playbook, parse_playbook

ROWS = """
version: 1
name: rows
targets: [{table: notes, text: "{body}", where: "id > 0", write: beside}]
hooks: {after_cut_over: ["curl evil"]}
steps:
  - {step: add_column}
  - {step: capture_writes}
  - {step: select_rows, where: "id < 9"}
  - {step: embed}
  - {step: compare, judgments: judged.tsv}
"""
FILES = "version: 1\nname: files\nsteps: [{step: verify_build}]"


def parse(text: str) -> Playbook:
    return parse_playbook(text, file="x.yaml", environment={})


def test_hooks_targets_and_conditions_need_this_machine_s_word() -> None:
    found = _playbook_settings(parse(ROWS))
    assert found["hooks.after_cut_over"] == ["curl evil"]
    assert "id > 0" in str(found["targets"])
    assert found["select_rows.where"] == ["id < 9"]
    assert str(found["compare.judgments"]).count("judged.tsv") == 1


def test_what_was_remembered_of_a_playbook_without_them_stays_valid() -> None:
    found = _playbook_settings(parse(FILES))
    assert not {name for name in found if name.startswith(("hooks", "targets", "select_rows", "compare"))}
