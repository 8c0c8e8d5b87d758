"""A corpus of which a part cannot be taken: it is named, in the plan and when the queue is filled."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from workplace import Workplace

FILES = 120

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")


def spoil(corpus: Path) -> None:
    """Add a name that is no UTF-8, one that is too long for the column, and a folder that cannot be listed."""
    (corpus / os.fsdecode(b"gr\xdfe.txt")).write_text("a name in Latin-1", encoding="utf-8")
    (corpus / ("x" * 60 + ".txt")).write_text("a long name", encoding="utf-8")
    above, before = "deep", os.open(".", os.O_RDONLY)
    try:
        os.chdir(corpus)
        # No chmod, as root lists every folder. A path of more than 4,096 bytes is too long for everybody.
        for part in (above, *["y" * 200] * 21):
            Path(part).mkdir()
            os.chdir(part)
        Path("z.txt").write_text("nobody reaches this", encoding="utf-8")
    finally:
        os.fchdir(before)
        os.close(before)


def test_what_cannot_be_taken_is_named_while_the_rest_goes_on(place: Workplace) -> None:
    spoil(Path(place.variables["RAGOPS_CORPUS"]))
    place.execute("ALTER TABLE files_queue ALTER file_path TYPE varchar(40)")
    planned = place.ragops("reset", "--playbook", "realign.yaml", "--dry-run", "--json")
    (reseed,) = (step for step in planned.json["steps"] if step["verb"] == "reseed_queue")
    names = "2 files whose names cannot be stored: gr\\xdfe.txt (its bytes are not UTF-8), "
    assert any(names + "x" * 60 in note for note in reseed["notes"]), planned.out
    assert any("1 folder that cannot be listed: deep/yyy" in note for note in reseed["notes"])
    filled = place.ragops("queue", "reseed", "--json")
    assert (filled.code, filled.json["seeded"]) == (0, FILES)
    assert {kind: found["count"] for kind, found in filled.json["left_out"].items()} == {"names": 2, "folders": 1}
    assert "64 characters, and the queue's column takes 40" in filled.err
    assert "longer than this system opens: shorten the names of the folders above it" in filled.err
    assert "grant" not in filled.json["left_out"]["folders"]["first"][0]
    # Left out on purpose: nothing to say.
    place.execute("TRUNCATE files_queue")
    chosen = place.ragops("queue", "reseed", "--exclude", "deep", "--exclude", "gr*", "--exclude", "x*", "--json")
    assert (chosen.code, chosen.json["seeded"], chosen.json["left_out"], chosen.err) == (0, FILES, {}, "")


def test_a_playbook_may_refuse_it(place: Workplace) -> None:
    spoil(Path(place.variables["RAGOPS_CORPUS"]))
    playbook = place.folder / "own.yaml"
    playbook.write_text(
        "version: 1\nname: own\nsource: {folder: corpus, unreadable: refuse}\nsteps: [{step: reseed_queue}]\n",
        encoding="utf-8",
    )
    for command in (("reset", "--yes"), ("queue", "reseed")):
        refused = place.ragops(*command, "--playbook", str(playbook))
        assert refused.code == 1, refused.err
        assert "1 file whose name cannot be stored: gr\\xdfe.txt (its bytes are not UTF-8)" in refused.err
        assert place.queue() == {}
