"""Know the vector space before anything is wiped: references, verdicts, and when no reset is needed."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from conftest import wait_for
from workplace import Workplace

PATH = "/api/v3/debug/compare-rag-embedding?query={query}"


def capture(place: Workplace, name: str, **variables: str) -> Path:
    file = place.folder / name
    done = place.ragops("fingerprint", "capture", "-o", str(file), **variables)
    assert done.code == 0, done.err
    return file


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_what_is_right_already_is_not_wiped(place: Workplace) -> None:
    assert place.reset().code == 0
    before = place.snapshot()
    again = place.reset()
    assert again.code == 0, again.err
    assert again.json["status"] == "nothing_to_reset"
    assert "agree with what is stored" in again.json["found"]
    after = place.snapshot()
    assert {name: after[name] for name in ("documents", "files_queue")} == {
        name: before[name] for name in ("documents", "files_queue")
    }
    # It leaves no unfinished campaign behind, and `undo` still means the one that wiped.
    assert place.value("SELECT status FROM ragops.campaign ORDER BY id DESC LIMIT 1") == "abandoned"
    screen = place.ragops("reset", "--yes")
    assert screen.code == 0
    assert "nothing to reset" in screen.out
    assert "ragops reset --force" in screen.out
    forced = place.reset("--force")
    assert (forced.code, forced.json["status"]) == (0, "done")


def test_stored_vectors_of_another_space_are_reset(place: Workplace) -> None:
    assert place.reset(RAGOPS_POOLING="cls").code == 0
    done = place.reset()
    assert (done.code, done.json["status"]) == (0, "done"), done.err
    verified = done.json["steps"][0]["effect"]["stored"]
    assert verified["disagreeing"] == verified["rows"] > 0


def test_a_divergent_reference_stops_before_the_wipe(place: Workplace, tmp_path: Path) -> None:
    assert place.reset().code == 0
    backend = capture(place, "backend.json", RAGOPS_POOLING="cls")
    text = (Path(__file__).parents[2] / "playbooks" / "realign.yaml").read_text(encoding="utf-8")
    mine = place.folder / "mine.yaml"
    mine.write_text(f"{text}\nreference:\n  fingerprint: {backend}\n", encoding="utf-8")
    before = place.snapshot()
    done = place.ragops("reset", "--playbook", str(mine), "--yes", "--force", "--json")
    assert done.code == 3
    assert "divergent" in done.json["error"]["what"]
    assert "pooling is mean, the reference's is cls" in done.json["error"]["found"]
    after = place.snapshot()
    assert (after["documents"], after["relations"]) == (before["documents"], before["relations"])
    assert place.value("SELECT status FROM ragops.campaign ORDER BY id DESC LIMIT 1") == "abandoned"


def test_an_equivalent_reference_lets_the_campaign_go_on(place: Workplace) -> None:
    backend = capture(place, "backend.json")
    text = (Path(__file__).parents[2] / "playbooks" / "realign.yaml").read_text(encoding="utf-8")
    mine = place.folder / "mine.yaml"
    mine.write_text(f"{text}\nreference:\n  fingerprint: {backend}\n", encoding="utf-8")
    done = place.ragops("reset", "--playbook", str(mine), "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["steps"][0]["effect"]["verdict"] == "identical"


@pytest.mark.parametrize(
    ("pooling", "code", "verdict", "cause"), [("auto", 0, "identical", None), ("cls", 3, "divergent", "pooling")]
)
def test_verify_against_a_fingerprint(
    place: Workplace, pooling: str, code: int, verdict: str, cause: str | None
) -> None:
    backend = capture(place, "backend.json", RAGOPS_POOLING=pooling)
    done = place.ragops("verify", "--against", str(backend), "--json")
    assert (done.code, done.json["verdict"]) == (code, verdict), done.err
    assert {"max", "mean", "top10_overlap"} <= done.json["drift"].keys()
    errors = [finding["id"] for finding in done.json["findings"] if finding["severity"] == "error"]
    assert errors[:1] == ([cause] if cause else [])
    screen = place.ragops("verify", "--against", str(backend)).out
    assert ("no reset is needed" in screen) is (code == 0)


def test_compare_two_files(place: Workplace) -> None:
    a, b = capture(place, "a.json"), capture(place, "b.json", RAGOPS_POOLING="cls")
    same = place.ragops("fingerprint", "compare", str(a), str(a), "--json")
    assert (same.code, same.json["verdict"]) == (0, "identical")
    other = place.ragops("fingerprint", "compare", str(a), str(b), "--json")
    assert (other.code, other.json["verdict"]) == (3, "divergent")
    assert {"verdict", "effective", "requested", "findings", "drift"} <= other.json.keys()
    assert "model.pooling" in [difference["field"] for difference in other.json["differences"]]


def test_a_capture_goes_to_stdout_without_a_file(place: Workplace) -> None:
    done = place.ragops("fingerprint", "capture")
    assert done.code == 0, done.err
    assert done.json["format"] == "ragops-fingerprint/1"


def test_verify_against_the_debug_endpoint_that_ragops_serves(place: Workplace) -> None:
    assert place.reset().code == 0
    port = free_port()
    place.start("probe", "serve", "--port", str(port))
    url = f"http://127.0.0.1:{port}{PATH}"

    def answers() -> bool:
        try:
            return httpx.get(url.replace("{query}", "index"), timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, what="the probe's answer")
    same = place.ragops("verify", "--against", url, "--json")
    assert same.code == 0, same.err
    assert same.json["verdict"] in ("identical", "equivalent")
    assert same.json["distances"]["own"].keys() == same.json["distances"]["reference"].keys()
    other = place.ragops("verify", "--against", url, "--json", RAGOPS_POOLING="cls")
    assert (other.code, other.json["verdict"]) == (3, "divergent"), other.err
    assert other.json["findings"][0]["id"] == "distances"


@pytest.mark.parametrize("reference", ["missing.json", "http://127.0.0.1:1/v1", f"http://127.0.0.1:1{PATH}"])
def test_a_reference_that_is_not_there(place: Workplace, reference: str) -> None:
    if "{query}" in reference:
        assert place.reset().code == 0
    done = place.ragops("verify", "--against", reference)
    assert done.code in (1, 2)
    assert done.err.count("error: ") == 1
    assert "Traceback" not in done.err
    assert "next:" in done.err


def test_requirements_are_checked_and_corrected(place: Workplace) -> None:
    file = place.folder / "requirements.txt"
    file.write_text("llama-cpp-python>=0.3\n", encoding="utf-8")
    done = place.ragops("verify", "--requirements", str(file), "--json")
    assert (done.code, done.json["verdict"]) == (3, "mismatch")
    corrected = done.json["corrected_requirements"].splitlines()
    assert "--no-binary=llama-cpp-python" in corrected
    file.write_text(done.json["corrected_requirements"] + "\n", encoding="utf-8")
    mended = place.ragops("verify", "--requirements", str(file), "--json")
    assert mended.code == 0, mended.err
