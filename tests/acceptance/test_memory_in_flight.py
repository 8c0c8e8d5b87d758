"""Many large documents at once: the controller's memory is bounded by their bytes, not by their number."""

from __future__ import annotations

import subprocess
from contextlib import suppress

import psutil
import pytest
from workplace import Workplace

FILES, BYTES, MOST_MB = 20, 10_000_000, 500


@pytest.mark.slow
def test_large_files_do_not_fill_the_memory(place: Workplace) -> None:
    """Blanks and one emoji, with which each character takes 4 bytes: little to embed, and much to hold."""
    corpus = place.folder / "large"
    corpus.mkdir()
    for number in range(FILES):
        (corpus / f"{number}.txt").write_text(f"\U0001f600 {number}" + " " * BYTES + "end", encoding="utf-8")
    place.variables["RAGOPS_CORPUS"] = str(corpus)
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == FILES
    process = place.start("embed", "--workers", "1")
    controller, highest = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            highest = max(highest, controller.memory_info().rss / 1e6)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    assert process.returncode == 0
    assert place.queue() == {"completed": FILES}
    assert highest < MOST_MB
