"""A stop in the middle of a long document: its item goes back, and nothing runs on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from conftest import WORDS, wait_for
from workplace import Workplace

# The program needs a second or two to see the signal, give items back and end; far less than the document takes.
WITHIN_S = 20
SIGNALS = [
    pytest.param([signal.SIGINT], 130, id="SIGINT"),
    pytest.param([signal.SIGTERM], 143, id="SIGTERM"),
    pytest.param([signal.SIGINT, signal.SIGINT], 130, id="twice"),
    pytest.param([signal.SIGINT, signal.SIGTERM], None, id="both together"),
]


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def stop(
    place: Workplace, process: subprocess.Popen[str], signals: Sequence[signal.Signals], code: int | None
) -> None:
    """Send the signals at once; the program ends in time, and leaves neither a process nor a claim."""
    children = family(process)
    assert children
    for number in signals:
        process.send_signal(number)
    _, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode in ({code} if code else {130, 143}), err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert place.queue() == {"pending": 1}


@pytest.fixture
def huge(place: Workplace, request: pytest.FixtureRequest) -> Path:
    """A corpus of one text of 30 MB, with or without line ends."""
    separator = request.param
    corpus = place.folder / "huge"
    corpus.mkdir()
    random.seed(7)
    paragraphs = (" ".join(random.choices(WORDS, k=40)) for _ in range(130_000))
    (corpus / "huge.txt").write_text(separator.join(paragraphs))
    assert (corpus / "huge.txt").stat().st_size > 25_000_000
    place.variables["RAGOPS_CORPUS"] = str(corpus)
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == 1
    return corpus


@pytest.mark.fault(41)
@pytest.mark.parametrize("huge", ["\n\n", " "], indirect=True, ids=["paragraphs", "one line"])
@pytest.mark.parametrize(("signals", "code"), SIGNALS)
def test_a_stop_while_a_huge_text_is_cut(
    place: Workplace, huge: Path, signals: Sequence[signal.Signals], code: int | None
) -> None:
    process = place.start("embed", "--workers", "1")
    wait_for(lambda: place.queue() == {"processing": 1}, what="a claim")
    # The tokenizer's child has its vocabulary loaded by now, and works only while the text is cut.
    time.sleep(2)
    assert place.queue() == {"processing": 1}
    stop(place, process, signals, code)


@pytest.fixture
def slow_parser(place: Workplace) -> Path:
    """A corpus of one PDF, whose parser takes a minute; returns the file that says that it has started."""
    corpus, started = place.folder / "pdf", place.folder / "started"
    corpus.mkdir()
    (corpus / "a.pdf").write_bytes(b"%PDF")
    child = place.folder / "slow_parser.py"
    child.write_text(f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(60)\n")
    # The program's start, with another parser child.
    main = f"from ragops.documents import parser\nimport pathlib\nparser._CHILD = pathlib.Path({str(child)!r})\n"
    (place.folder / "sitecustomize.py").write_text(main)
    place.variables["RAGOPS_CORPUS"] = str(corpus)
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == 1
    return started


@pytest.mark.parametrize(("signals", "code"), SIGNALS)
def test_a_stop_while_a_document_is_parsed(
    place: Workplace, slow_parser: Path, signals: Sequence[signal.Signals], code: int | None
) -> None:
    path = os.pathsep.join([str(place.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = place.start("embed", "--workers", "1", PYTHONPATH=path)
    wait_for(slow_parser.exists, what="the parser")
    assert any("slow_parser.py" in " ".join(child.cmdline()) for child in family(process))
    stop(place, process, signals, code)
