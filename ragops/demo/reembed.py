"""The demo's second story: every vector changes, and the application goes on answering.

A table with texts and vectors of an old model (CLS pooling) gets those of a new one (mean pooling) through the
shipped playbook `reembed.yaml`, while a thread queries it about 20 times per second: before, during and after it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragops.campaign import run as campaign
from ragops.campaign.measure import embed_all, shortened
from ragops.campaign.run import CampaignResult
from ragops.demo.corpus import write_stdlib_corpus
from ragops.demo.model import minilm_gguf
from ragops.documents.walking import walk_folder
from ragops.embedder.config import probe_model
from ragops.errors import RagopsError, first_line
from ragops.paths import cache_folder, data_folder, with_defaults
from ragops.playbook import load_playbook
from ragops.postgres.connection import DATABASE_ERRORS, Target, connect
from ragops.postgres.demo_table import TABLE, Searches, fill_table, is_foreign
from ragops.postgres.setup import ensure_pgvector, ensure_ragops_schema
from ragops.quality.vectors import normalize
from ragops.reporter import Reporter
from ragops.session import Session
from ragops.workers.state import Stop

PLAYBOOK = "reembed.yaml"
QUERIES = 25
WORDS_PER_QUERY = 8
PER_SECOND = 20
SAY_EVERY_S = 5.0
# Answers that the application gets before anything begins, and after everything has ended.
QUIET_S = 2.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the application got."""

    answers: int
    errors: tuple[str, ...]
    longest_ms: float
    found_before: float
    """Share of the answers that held the row that the query was taken from, while the old column was read."""
    found_after: float


@dataclass(frozen=True, slots=True)
class ReembedResult:
    """The campaign's result, and what the application got all the while."""

    result: CampaignResult
    answers: Answers
    documents: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        return {
            **self.result.to_json(),
            "documents": self.documents,
            "answers": self.answers.answers,
            "errors": list(self.answers.errors),
            "longest_ms": self.answers.longest_ms,
            "found_before": self.answers.found_before,
            "found_after": self.answers.found_after,
            "seconds": self.seconds,
        }


class Application(threading.Thread):
    """Asks for the ten nearest rows, again and again, with queries of the model that it uses at the time."""

    def __init__(
        self, target: Target, old: NDArray[np.float32], new: NDArray[np.float32], ids: Sequence[int], say: Reporter
    ) -> None:
        super().__init__(name="application", daemon=True)
        self._target = target
        self._queries = (old, new)
        self._ids = ids
        self._say = say
        self._uses_new = threading.Event()
        self._ended = threading.Event()
        self._counts = ([0, 0], [0, 0])
        self._errors: list[str] = []
        self._longest_s = 0.0

    def switch(self) -> None:
        """Use the new model from now on, as a deployment after the cutover does."""
        self._uses_new.set()

    def end(self) -> Answers:
        """Stop asking, and return what came."""
        self._ended.set()
        self.join(timeout=60)
        (old, old_found), (new, new_found) = self._counts
        return Answers(
            answers=old + new,
            errors=tuple(self._errors),
            longest_ms=round(self._longest_s * 1000, 1),
            found_before=old_found / old if old else 0.0,
            found_after=new_found / new if new else 0.0,
        )

    def run(self) -> None:
        connection = connect(self._target)
        searches, number, said = Searches(connection), 0, time.monotonic()
        while not self._ended.wait(1 / PER_SECOND):
            space, place = int(self._uses_new.is_set()), number % len(self._ids)
            number += 1
            started = time.monotonic()
            try:
                found = searches.nearest(self._queries[space][place])
            except (*DATABASE_ERRORS, RagopsError) as error:
                self._errors.append(first_line(error))
                with suppress(*DATABASE_ERRORS, RagopsError):
                    connection.close()
                    connection = connect(self._target)
                    searches = Searches(connection)
                continue
            self._longest_s = max(self._longest_s, time.monotonic() - started)
            if found:
                self._counts[space][0] += 1
                self._counts[space][1] += self._ids[place] in found
            if time.monotonic() - said >= SAY_EVERY_S:
                said = time.monotonic()
                total = self._counts[0][0] + self._counts[1][0]
                self._say.info(f"the application: {total:,} answers so far, {len(self._errors):,} errors")
        connection.close()


def run_reembed_story(
    target: Target,
    *,
    reporter: Reporter,
    stop: Stop,
    documents: int,
    model: Path | None = None,
    workers: int | None = None,
) -> ReembedResult:
    """Fill a table with vectors of an old model, embed it again beside, and exchange the columns under queries.

    Raises RagopsError for a table of the demo's name that no demo has made.
    """
    started = time.monotonic()
    corpus = data_folder() / "demo" / "corpus"
    written = write_stdlib_corpus(corpus, documents=documents)
    texts = [(corpus / name).read_text(encoding="utf-8") for name in walk_folder(corpus, ["**/*.txt"])]
    model_file = model.absolute() if model else minilm_gguf(cache_folder(), progress=reporter.info)
    variables = {
        "RAGOPS_TABLE": TABLE,
        "RAGOPS_MODEL": str(model_file),
        "RAGOPS_VALIDATE_AFTER": str(min(1000, max(10, written // 15))),
        "RAGOPS_CUT_OVER": "ready",
        "RAGOPS_CACHE_MIB": "0",
    }
    if workers is not None:
        variables["RAGOPS_WORKERS"] = str(workers)
    playbook = load_playbook(PLAYBOOK, environment=with_defaults(variables, os.environ))
    with connect(target, with_vector=False) as connection:
        ensure_pgvector(connection, target)
    with connect(target) as connection:
        session = Session.on(connection, target, playbook, reporter=reporter, stop=stop)
        ensure_ragops_schema(connection)
        if is_foreign(connection):
            raise RagopsError(
                f"the embedded database has a table {TABLE} that no demo has made; nothing was changed",
                where=target.label,
                hint="RAGOPS_DATA_DIR=NEW_FOLDER ragops demo --story reembed",
            )
        campaign.give_up_unfinished(session)
        reporter.info(f"the application's table: {written:,} texts in {TABLE}, with vectors of an old model (CLS)")
        fill_table(connection, texts, _embed(session, texts, pooling="cls"))
        step = max(1, written // QUERIES)
        ids = list(range(1, written + 1, step))[:QUERIES]
        queries = [" ".join(texts[id - 1].split("\n", 2)[-1].split()[:WORDS_PER_QUERY]) for id in ids]
        application = Application(
            target, _embed(session, queries, pooling="cls"), _embed(session, queries), ids, reporter
        )
        application.start()
        try:
            stop.requested.wait(QUIET_S)
            plan = campaign.plan_campaign(session, model=probe_model(playbook))
            result = campaign.start(session, plan)
            application.switch()
            reporter.info("the columns are exchanged; the application uses the new model from now on")
            stop.requested.wait(QUIET_S)
        finally:
            answers = application.end()
    return ReembedResult(result, answers, written, round(time.monotonic() - started, 1))


def _embed(session: Session, texts: Sequence[str], *, pooling: str = "auto") -> NDArray[np.float32]:
    """Return the vectors of texts; of one that is too long, that of its beginning."""
    own = session.with_playbook(session.playbook.with_changes(model={"pooling": pooling}))
    with own.open_embedder() as embedder:
        fitting = [shortened(embedder, text, prefix="", suffix="") for text in texts]
        embedded = embed_all(own, embedder, fitting, suffix="")
    session.reporter.end_progress()
    return normalize(embedded.vectors)
