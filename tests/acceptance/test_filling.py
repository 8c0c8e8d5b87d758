"""A command that outlives the filling which it was started for takes and stores nothing of the next one."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from conftest import wait_for
from tiny_gguf import write_tiny_bert
from workplace import Workplace

OPEN_TRANSACTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
    " AND pid <> pg_backend_pid()"
)


def write_texts(folder: Path, word: str, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"doc{number:03}.txt").write_text(f"{word} text number {number}", encoding="utf-8")
    return folder


@contextmanager
def in_a_long_request(place: Workplace, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """An embedder that has stored a little, and whose child takes its time until the end of the block."""
    place.slow_down(0.05)
    command = ("embed", "--playbook", "realign.yaml", "--workers", "1", "--batch-size", "5")
    embedding = place.start(*command, **variables)
    wait_for(lambda: place.completed() > 0, what="a stored document")
    children = [child for child in psutil.Process(embedding.pid).children() if "child.py" in str(child.cmdline())]
    for child in children:
        child.suspend()
    settled, since = -1, 0.0

    def is_settled() -> bool:
        nonlocal settled, since
        if place.value(OPEN_TRANSACTIONS) or place.completed() != settled:
            settled, since = place.completed(), time.monotonic()
        return time.monotonic() - since > 3

    wait_for(is_settled, what="the end of what was embedded")
    assert place.queue().keys() == {"completed", "processing", "pending"}
    yield embedding
    for child in children:
        child.resume()


@pytest.mark.slow
def test_an_embedder_that_outlives_a_reset_stores_no_old_text_under_a_new_item(place: Workplace) -> None:
    """As on another machine: a long request, while the campaign refills the queue with equal names."""
    old, new = write_texts(place.folder / "old", "OLD", 90), write_texts(place.folder / "new", "NEW", 90)
    before, after = {"RAGOPS_CORPUS": str(old)}, {"RAGOPS_CORPUS": str(new)}
    assert place.ragops("queue", "reseed", "--playbook", "realign.yaml", **before).code == 0
    reset = ("reset", "--playbook", "realign.yaml", "--yes", "--json", "--force")
    filled = "SELECT count(*) FROM ragops.step WHERE verb = 'reseed_queue' AND status = 'done'"
    with in_a_long_request(place, **before) as outliving:
        campaign = place.start(*reset, **after)
        wait_for(lambda: campaign.poll() is not None or place.value(filled) == 1, what="the refilled queue")
    out, err = outliving.communicate(timeout=120)
    done, problems = campaign.communicate(timeout=120)
    assert campaign.returncode == 0, (done, problems)
    assert outliving.returncode == 1, (out, err)
    assert "the queue was filled again (generation 3, at 20" in err
    assert f"from {new}) since this command started" in err
    assert "next:   ragops embed" in err
    assert place.rows("SELECT split_part(content, ' ', 1), count(*) FROM documents GROUP BY 1") == [("NEW", 90)]
    assert place.queue() == {"completed": 90}
    # The command that the message names.
    assert place.ragops("embed", "--playbook", "realign.yaml", **after).code == 0


def test_an_embedder_that_outlives_the_emptying_of_its_queue_says_so(place: Workplace) -> None:
    old = write_texts(place.folder / "old", "OLD", 60)
    before = {"RAGOPS_CORPUS": str(old)}
    assert place.ragops("queue", "reseed", "--playbook", "realign.yaml", **before).code == 0
    with in_a_long_request(place, **before) as outliving:
        stored = place.completed()
        emptied = place.ragops("tables", "empty", "files_queue", "--playbook", "realign.yaml", "--yes")
        assert emptied.code == 0, emptied.err
    out, err = outliving.communicate(timeout=120)
    assert outliving.returncode == 1, (out, err)
    assert "the queue was emptied (generation 2, at 20" in err
    assert place.value("SELECT count(*) FROM documents") == stored
    # What comes back is a filling of its own, with the source that it had.
    assert place.ragops("undo", "--yes").code == 0
    done = place.ragops("embed", "--playbook", "realign.yaml", "--json", **before)
    assert (done.code, place.queue()) == (0, {"completed": 60}), done.err


def test_a_resumed_campaign_with_another_model_file_is_refused(place: Workplace) -> None:
    """The file was replaced in between: half of the corpus would be of another space."""
    model = place.folder / "model.gguf"
    shutil.copy(place.variables["RAGOPS_MODEL"], model)
    place.variables["RAGOPS_MODEL"] = str(model)
    place.variables |= {"RAGOPS_VALIDATE_AFTER": "80", "RAGOPS_INDEX_AFTER": "100"}
    place.slow_down(0.05)
    campaign = place.start("reset", "--playbook", "realign.yaml", "--yes")
    wait_for(lambda: campaign.poll() is not None or place.completed() > 0, what="a stored document")
    campaign.kill()
    campaign.communicate(timeout=120)
    wait_for(lambda: not place.value(OPEN_TRANSACTIONS), what="the end of its transactions")
    stored = place.completed()
    assert 0 < stored < 80
    place.speed_up()
    right = model.read_bytes()
    write_tiny_bert(model, dimensions=32, seed=7)
    resumed = place.ragops("reset", "--resume")
    assert resumed.code == 1, resumed.err
    assert "this command would mix two vector spaces" in resumed.err
    digests = [sha256(model.read_bytes()).hexdigest(), sha256(right).hexdigest()]
    assert [digest in resumed.err for digest in digests] == [True, True]
    assert "ragops reset --new" in resumed.err
    assert place.completed() == stored
    model.write_bytes(right)
    again = place.ragops("reset", "--resume", "--json")
    assert (again.code, again.json["status"]) == (0, "done"), again.err
    assert place.value("SELECT count(DISTINCT fingerprint) FROM ingestion_metrics") == 1
