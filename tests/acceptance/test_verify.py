"""`ragops verify`: what is effectively loaded against what the playbook asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Ragops

from ragops.playbook.loading import shipped_playbooks


def playbook(folder: Path, build: dict[str, object]) -> str:
    """realign.yaml with another `build:`; JSON is YAML."""
    text = (shipped_playbooks() / "realign.yaml").read_text(encoding="utf-8")
    old = text[text.index("build:\n") : text.index("\nworkers:\n")]
    file = folder / "mine.yaml"
    file.write_text(text.replace(old, f"build: {json.dumps(build)}\n"), encoding="utf-8")
    return str(file)


def test_the_shipped_playbook_matches(ragops: Ragops, tiny_model: Path) -> None:
    done = ragops("verify", "--json", RAGOPS_MODEL=str(tiny_model))
    assert done.code == 0, done.err
    found = done.json
    assert found["verdict"] == "match"
    assert found["effective"]["model"]["dimensions"] == 32
    assert found["effective"]["build"]["package_version"]
    assert found["requested"]["model"]["parameters"]["n_ctx"] == 512
    clamped = {finding["id"]: finding for finding in found["findings"]}["parameter-n_ctx"]
    assert clamped["severity"] == "info"
    assert "512 was requested" in clamped["message"]
    assert all({"id", "severity", "message", "hint"} <= finding.keys() for finding in found["findings"])


def test_the_screen_says_the_same(ragops: Ragops, tiny_model: Path) -> None:
    done = ragops("verify", "--model", str(tiny_model))
    assert done.code == 0, done.err
    assert "build MATCH" in done.out
    assert "dimensions" in done.out


@pytest.mark.parametrize(
    ("build", "finding"),
    [
        ({"version": "0.0.1"}, "build-version"),
        ({"features": {"NO_SUCH_FEATURE": True}}, "build-feature-no_such_feature"),
    ],
)
def test_another_build_is_a_mismatch(
    ragops: Ragops, tiny_model: Path, tmp_path: Path, build: dict[str, object], finding: str
) -> None:
    file = playbook(tmp_path, build)
    done = ragops("verify", "--playbook", file, "--json", RAGOPS_MODEL=str(tiny_model))
    assert done.code == 3
    assert done.json["verdict"] == "mismatch"
    errors = [f for f in done.json["findings"] if f["severity"] == "error"]
    assert [error["id"] for error in errors] == [finding]
    assert errors[0]["hint"]


def test_a_feature_that_is_on_and_must_be_off(ragops: Ragops, tiny_model: Path, tmp_path: Path) -> None:
    """The incident's backend: a build whose features are named must be the one that is loaded."""
    loaded = ragops("verify", "--json", RAGOPS_MODEL=str(tiny_model)).json["effective"]["build"]["features"]
    on = next(name for name, value in loaded.items() if value == "1")
    file = playbook(tmp_path, {"features": {on: False}})
    done = ragops("verify", "--playbook", file, "--json", RAGOPS_MODEL=str(tiny_model))
    assert done.code == 3
    assert f"{on} is on in the loaded library" in done.json["findings"][0]["message"]


def test_a_campaign_on_another_build_stops_before_it_changes_anything(
    ragops: Ragops, tiny_model: Path, tmp_path: Path, dsn18: str
) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("one document", encoding="utf-8")
    variables = {"RAGOPS_DSN": dsn18, "RAGOPS_MODEL": str(tiny_model), "RAGOPS_CORPUS": str(tmp_path / "corpus")}
    file = playbook(tmp_path, {"version": "0.0.1"})
    done = ragops("reset", "--playbook", file, "--yes", "--json", **variables)
    assert done.code == 3
    assert "0.0.1" in done.json["error"]["found"]
    status = ragops("status", "--json", **variables).json
    assert status["campaign"]["status"] == "abandoned"
    assert sum(status["queue"].values()) == 0
