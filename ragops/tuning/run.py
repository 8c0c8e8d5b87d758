"""tune: measure shapes of the fleet on the corpus itself, and keep the best for this host and build."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ragops.campaign.steps.embed import with_source_of
from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_text
from ragops.embedder.child_files import model_bytes
from ragops.embedder.client import Embedder, TokenIds
from ragops.embedder.config import checked_sha256, embedder_config
from ragops.embedder.starting import open_embedder, use_child
from ragops.errors import NegativeVerdict, RagopsError
from ragops.fingerprint.batches import measure_batches
from ragops.host import read_limits
from ragops.playbook.targets import RowTarget
from ragops.postgres.queue import Item
from ragops.postgres.row_reader import RowReader
from ragops.session import Session
from ragops.tuning.trials import Trial, best_of, measure, shapes_to_try
from ragops.workers.long_texts import beginning, tail_length, truncated
from ragops.workers.sources import Documents, Preparer, locations_of
from ragops.workers.tuned import Tuned, save_choice

# Of a corpus of a million files only the first locations are listed: enough to draw from.
LISTED = 20_000
DRAWN = 400
TOKENS = 60_000
READ_AT_ONCE = 50
FEWEST_TEXTS = 8


@dataclass(frozen=True, slots=True)
class TuneResult:
    """Every setting that was measured, and the chosen one."""

    chosen: Tuned
    stored_in: str | None
    """None with `--dry-run`."""
    texts: int
    tokens: int
    max_drift: float
    trials: Sequence[Trial]

    def to_json(self) -> dict[str, object]:
        return {
            "chosen": dataclasses.asdict(self.chosen),
            "stored_in": self.stored_in,
            "texts": self.texts,
            "tokens": self.tokens,
            "max_drift": self.max_drift,
            # JSON has no NaN.
            "trials": [
                {**dataclasses.asdict(trial), "drift": None if math.isnan(trial.drift) else trial.drift}
                for trial in self.trials
            ],
        }


def tune(session: Session, *, seconds: float, save: bool = True) -> TuneResult:
    """Measure within about `seconds` and store the choice.

    Raises NegativeVerdict when every setting moves vectors too far, RagopsError when the corpus has too few
    texts, and as Embedder does.
    """
    checked_sha256(session.playbook)
    session = with_source_of(session, session.queue.filling())
    playbook, reporter = session.playbook, session.reporter
    config = embedder_config(playbook, threads=1)
    texts = _sample(session)
    assert config.model.is_file(), "checked_sha256 has read it"

    def start(sizing: Tuned) -> Embedder:
        changed = embedder_config(
            playbook, threads=sizing.threads, tokens_per_batch=sizing.tokens_per_batch, repack=sizing.repack
        )
        return Embedder(changed, command=session.embedder_command)

    sizings = shapes_to_try(read_limits(), model_bytes=model_bytes(config.model))
    # Above either of them a campaign fails its own validation, or its space counts as another.
    limit, named = min(
        (playbook.build.max_drift, "build.max_drift"),
        (playbook.validation.max_distance, "validation.max_distance"),
    )
    try:
        trials = measure(
            start,
            texts,
            sizings,
            limit=limit,
            seconds=seconds,
            show=lambda done, total: reporter.progress("measuring", done, total),
            choose=lambda child, tokens: measure_batches(child, playbook, tokens_per_batch=tokens),
        )
    finally:
        reporter.end_progress()
    tuned = best_of(trials)
    if tuned is None:
        raise NegativeVerdict(
            "every setting moves vectors by more than the limit; nothing was stored",
            actual=f"drift {min(t.drift for t in trials if not math.isnan(t.drift)):.1e} and more",
            expected=f"at most {limit:.1e} ({named})",
            hint="ragops verify   shows what this build is",
        )
    return TuneResult(
        chosen=tuned,
        stored_in=str(save_choice(playbook, tuned)) if save else None,
        texts=len(texts),
        tokens=sum(map(len, texts)),
        max_drift=limit,
        trials=trials,
    )


def _sample(session: Session) -> list[TokenIds]:
    """Return chunks of documents drawn at random, as token ids; the same ones in every run."""
    if session.playbook.targets:
        return _sample_rows(session)
    locations = list(islice(locations_of(session.playbook.source, session.connect), LISTED))
    draw = random.Random(0)
    drawn = draw.sample(locations, min(DRAWN, len(locations)))
    config = dataclasses.replace(embedder_config(session.playbook, threads=1), vocab_only=True)

    def cut(child: Embedder) -> list[TokenIds]:
        preparer = Preparer(session.playbook, max_tokens=child.model.max_tokens, count_tokens=child.count_tokens)
        found: list[TokenIds] = []
        for chunk in _chunks(session, preparer, drawn):
            found += child.tokenise([preparer.prefix + chunk], suffix=preparer.suffix)
            if sum(map(len, found)) >= TOKENS:
                break
        return found

    texts = use_child(lambda: open_embedder(config, command=session.embedder_command), cut)
    _refuse_few(texts, f"{len(drawn)} documents", "source:")
    draw.shuffle(texts)
    return texts


def _refuse_few(texts: Sequence[TokenIds], drawn: str, key: str) -> None:
    """Raise RagopsError for a corpus that says nothing about speed."""
    if len(texts) < FEWEST_TEXTS:
        raise RagopsError(
            "the corpus has too few texts to measure with",
            actual=f"{len(texts)} texts in {drawn}",
            expected=f"at least {FEWEST_TEXTS}",
            hint=f"check {key} in the playbook",
        )


def _sample_rows(session: Session) -> list[TokenIds]:
    """Return chunks of rows drawn at random from every target, as token ids."""
    facts = session.targets(scans=False)
    share = math.ceil(DRAWN / len(facts))
    drawn: list[tuple[str, RowTarget]] = []
    for one in facts:
        target = session.playbook.targets[one.number - 1]
        reader = RowReader(session.connection, target, one, column=one.embedding)
        drawn += [(text, target) for text in reader.some_texts(size=share)]
    random.Random(0).shuffle(drawn)
    config = dataclasses.replace(embedder_config(session.playbook, threads=1), vocab_only=True)
    texts: list[TokenIds] = []
    with Embedder(config, command=session.embedder_command) as child:
        preparer = Preparer(session.playbook, max_tokens=child.model.max_tokens, count_tokens=child.count_tokens)
        for text, target in drawn:
            texts += _row_chunks(child, preparer, text, target)
            if sum(map(len, texts)) >= TOKENS:
                break
    _refuse_few(texts, f"{len(drawn)} rows", "targets:")
    return texts


def _row_chunks(child: Embedder, preparer: Preparer, text: str, target: RowTarget) -> list[TokenIds]:
    """Return the token ids that a row is embedded as."""
    try:
        whole = extract_text(text).text
        if target.long_text == "mean":
            chunks = [chunk.text for chunk in preparer.chunk(whole, markdown=False)]
            return child.tokenise([preparer.prefix + chunk for chunk in chunks], suffix=preparer.suffix)
    except Unreadable:
        return []  # `embed` will name it
    begun = preparer.prefix + beginning(whole.strip(), limit=preparer.max_tokens)
    ids = child.tokenise([begun], suffix=preparer.suffix)[0]
    tail = tail_length(child, suffix=preparer.suffix)
    return [truncated(ids, limit=preparer.max_tokens, tail=tail)]


def _chunks(session: Session, preparer: Preparer, locations: Sequence[str]) -> Iterator[str]:
    documents = Documents(session.playbook.source)
    for start in range(0, len(locations), READ_AT_ONCE):
        items = [Item(None, location) for location in locations[start : start + READ_AT_ONCE]]
        texts = documents.fetch(session.connection, items)
        for item in items:
            read = documents.extract(item, texts)
            if isinstance(read, Unreadable):
                continue
            try:
                chunks = preparer.chunk(read.text, markdown=read.media_type == "text/markdown")
            except Unreadable:
                continue  # `embed` will name it
            yield from (chunk.text for chunk in chunks)
