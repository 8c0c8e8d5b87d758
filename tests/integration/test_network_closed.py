"""No document makes ragops reach for a network: a tracer of its system calls sees no attempt."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workplace import Workplace, clean_environment, program
from zoo_files import docx, epub, odf, p, pdf, pptx, row, shape, xlsx

from ragops.documents import formats

# A socket alone sends nothing, but nobody opens one of these for nothing.
_ATTEMPT = re.compile(r"socket\(AF_INET|sa_family=AF_INET|socket\(AF_PACKET|socket\(AF_VSOCK")
_CODE = b"object Main extends App { println(1) } // one two three\n"
_MADE = {
    ".docx": docx(p("one")),
    ".xlsx": xlsx(row(1, "one")),
    ".pptx": pptx(shape("one")),
    ".odt": odf("text", "<text:p>one</text:p>"),
    ".ods": odf("spreadsheet", "<table:table/>"),
    ".odp": odf("presentation", "<draw:page/>"),
    ".epub": epub({"a.xhtml": '<p>one</p><img src="http://192.0.2.1/a.png"/>'}),
    ".pdf": pdf("one"),
    ".rtf": rb"{\rtf1 one {\field{\*\fldinst INCLUDEPICTURE http://192.0.2.1/a.png}{\fldrslt two}}\par}",
    ".html": b'<script src="http://192.0.2.1/a.js"></script><link href="http://192.0.2.1/a.css"><p>one</p>'
    b'<img src="http://192.0.2.1/a.png"><iframe src="http://192.0.2.1/b.html"></iframe>',
    ".xml": b'<!DOCTYPE a SYSTEM "http://192.0.2.1/a.dtd" [<!ENTITY x SYSTEM "http://192.0.2.1/x">]>'
    b"<a>one &x;</a>",
    ".eml": b"Subject: one\nContent-Type: message/external-body; access-type=URL; URL=http://192.0.2.1/\n\ntwo\n",
}
_EXTRACT = """
import sys
from pathlib import Path
from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_file
for file in sorted(Path(sys.argv[1]).iterdir()):
    try:
        extract_file(file)
        print("read", file.suffix)
    except Unreadable:
        print("refused", file.suffix)
"""
# Pictures, archives and programs fail, as they must.
_PLAYBOOK = """
version: 1
name: network
database: {dsn: "${RAGOPS_DSN}"}
model: {file: "${RAGOPS_MODEL}"}
source: {folder: "${RAGOPS_CORPUS}"}
validation: {max_failed_share: 1}
steps: [{step: reseed_queue}, {step: embed}, {step: validate}]
"""
_CONNECT = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)"


def _tracer(log: Path) -> list[str]:
    """Return the command that stands in front of the traced one; skips where there is none."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace, which sees every system call, is not installed (it exists on Linux only)")
    command = [strace, "-f", "-qq", "-e", "trace=%network", "-o", str(log)]
    # The control: what does reach out is seen.
    tried = subprocess.run([*command, sys.executable, "-c", _CONNECT], capture_output=True, text=True, check=False)
    if "ptrace" in tried.stderr:
        pytest.skip(f"this user may not trace programs: {tried.stderr.strip()[:200]}")
    assert _attempts(log), f"the tracer does not see a connection: {tried.stderr}"
    return command


def _attempts(log: Path) -> list[str]:
    return [
        line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if _ATTEMPT.search(line)
    ]


def _corpus(folder: Path, suffixes: list[str]) -> Path:
    """Write a file of every suffix: a real one of its format, or source code under its name."""
    folder.mkdir()
    for suffix in suffixes:
        same = _MADE.get(suffix) or _MADE.get(_LIKE.get(suffix, ""), _CODE)
        (folder / f"file{suffix}").write_bytes(same)
    return folder


_LIKE = (
    dict.fromkeys(formats.HTML, ".html")
    | dict.fromkeys(formats.MARKUP - formats.HTML, ".xml")
    | dict.fromkeys(formats.MAIL, ".eml")
)
_ALL = sorted(
    (formats.MARKDOWN | formats.TEXT | formats.MARKUP | formats.PARSED | formats.PICTURES | formats.ARCHIVES)
    | formats.MEDIA
    | formats.BINARIES
    | set(formats.COMPRESSED)
    | {".unheard"}
)


def test_documents_reach_for_no_network(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    tracer = _tracer(log)
    corpus = _corpus(tmp_path / "corpus", [".scala", ".vue", ".html", ".docx", ".pdf", ".epub", ".eml"])
    done = subprocess.run(
        [*tracer, sys.executable, "-c", _EXTRACT, str(corpus)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("read ") == 7, done.stdout
    assert _attempts(log) == []


@pytest.mark.slow
def test_a_campaign_over_every_known_suffix_reaches_for_no_network(place: Workplace, tmp_path: Path) -> None:
    """In a network namespace without routes, where whatever a document needs from outside would be missing."""
    log = tmp_path / "calls"
    tracer = _tracer(log)
    # Root stays itself: in a user namespace it could not reach the socket of the server's own user.
    alone = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-current-user"])]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this user may make no network namespace")
    corpus = _corpus(tmp_path / "every", _ALL)
    playbook = tmp_path / "network.yaml"
    playbook.write_text(_PLAYBOOK, encoding="utf-8")
    done = subprocess.run(
        [*tracer, *alone, *program(), "reset", "--playbook", str(playbook), "--yes", "--json"],
        env=clean_environment(place.folder) | place.variables | {"RAGOPS_CORPUS": str(corpus)},
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sum(place.queue().values()) == len(_ALL)
    assert place.completed() > len(formats.TEXT)
    assert _attempts(log) == []
