"""The steps of a playbook, one model per verb."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ragops.playbook.problems import Place
from ragops.playbook.tables import LogicalTable, Section


class VerifyBuild(Section):
    """Load the model in the workers' build and compare both with `build:` and `model:`."""

    step: Literal["verify_build"]


class DropIndexes(Section):
    """Journal, then drop every vector index that the catalog lists on the vector tables."""

    step: Literal["drop_indexes"]


class EmptyTable(Section):
    """One table to empty. `truncate` frees its space at once, `delete` only after a VACUUM."""

    table: LogicalTable
    method: Literal["truncate", "delete"] = "truncate"


class EmptyTables(Section):
    """Archive (unless declined), then empty the tables, all in one transaction."""

    step: Literal["empty_tables"]
    tables: tuple[EmptyTable, ...] = Field(
        min_length=1,
        default=(
            EmptyTable(table="documents"),
            EmptyTable(table="document_chunks"),
            EmptyTable(table="parsed_files", method="delete"),
            EmptyTable(table="ingestion_metrics", method="delete"),
            EmptyTable(table="files_queue"),
        ),
    )
    archive: bool = True
    """Copy every row into the schema `ragops` first, so that `ragops undo` can restore it."""
    accept_lost_columns: tuple[str, ...] = ()
    """Columns that ragops does not write, such as `documents.tenant_id`, whose values may be gone: without this,
    a plan that would lose values of documents or chunks is refused."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [entry.table for entry in self.tables]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{' and '.join(twice)} can be emptied only once")
        return self


class ReseedQueue(Section):
    """Fill the queue from `source:`."""

    step: Literal["reseed_queue"]


class Embed(Section):
    """Embed the queue; with `until`, only its first `until` items."""

    step: Literal["embed"]
    until: PositiveInt | None = None


class Validate(Section):
    """Check the stored vectors; a failed verdict stops the campaign (exit 3)."""

    step: Literal["validate"]
    after: PositiveInt | None = None


class RebuildIndexes(Section):
    """Restore the journaled vector indexes, or create those of the playbook."""

    step: Literal["rebuild_indexes"]
    concurrently: bool = False
    # The value is put into a SET statement, which takes no parameters: nothing but an amount may pass.
    maintenance_work_mem: str | None = Field(default=None, pattern=r"^[1-9][0-9]*(kB|MB|GB|TB)$")
    parallel_workers: int | None = Field(default=None, ge=0, le=64)


RowKind = Literal["missing", "broken", "divergent", "stale", "all"]


class SelectRows(Section):
    """Queue rows of the targets: those whose vector is not as it should be, or all of them.

    *missing*: NULL. *broken*: zero, not finite, of another norm or dimension than the model's. *stale*: the text
    changed since it was embedded. *divergent*: every row is embedded, and only vectors farther than `max_distance`
    from the new one are written.
    """

    step: Literal["select_rows"]
    rows: tuple[RowKind, ...] = Field(default=("all",), min_length=1)
    where: str | None = Field(default=None, min_length=1)
    """SQL condition over the rows, beside that of the target."""
    max_distance: PositiveFloat | None = None
    """Of *divergent*; null: `validation.max_distance`."""

    @field_validator("where", mode="before")
    @classmethod
    def _absent_if_empty(cls, value: object) -> object:
        """Read an empty text as null, as a target's `where` is."""
        return None if value == "" else value


class AddColumn(Section):
    """Add the second vector column of every target that is written beside."""

    step: Literal["add_column"]


class CaptureWrites(Section):
    """Note the keys of rows that the application writes from now on, with a trigger."""

    step: Literal["capture_writes"]


class Compare(Section):
    """Compare the old and the new column on the same queries: GO, NO-GO or INCONCLUSIVE."""

    step: Literal["compare"]
    queries: tuple[str, ...] = ()
    """If empty, and without `judgments`: `sample` queries drawn from the corpus."""
    judgments: Path | None = None
    """TSV or JSON Lines of query, key of a relevant row, and relevance (1 if absent)."""
    sample: PositiveInt = 200
    k: PositiveInt = 10
    max_loss: float = Field(default=0.02, ge=0, le=1)
    """Largest loss of recall@k of the new index against exact search, and of nDCG where judged, for GO."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)


class Drain(Section):
    """Embed what the application wrote meanwhile, until next to nothing is left."""

    step: Literal["drain"]


class CutOver(Section):
    """Give the new column the old one's name, in one short transaction; `ragops cutover rollback` swaps back."""

    step: Literal["cut_over"]
    when: Literal["asked", "ready"] = "asked"
    """`asked` waits for `ragops cutover run`; `ready` goes on by itself."""
    lock_timeout_s: PositiveFloat = 2.0


Step = Annotated[
    VerifyBuild
    | DropIndexes
    | EmptyTables
    | ReseedQueue
    | SelectRows
    | AddColumn
    | CaptureWrites
    | Embed
    | Validate
    | RebuildIndexes
    | Compare
    | Drain
    | CutOver,
    Field(discriminator="step"),
]
# What a campaign over rows that stay can do, and what one that empties and refills can.
ROW_STEPS = (
    *(VerifyBuild, DropIndexes, SelectRows, AddColumn, CaptureWrites, Embed, Validate, RebuildIndexes),
    *(Compare, Drain, CutOver),
)
FILE_STEPS = (VerifyBuild, DropIndexes, EmptyTables, ReseedQueue, Embed, Validate, RebuildIndexes)


def wrong_order(steps: tuple[Step, ...]) -> Iterator[tuple[Place, str]]:
    """Yield the steps that cannot run where they are, each with the reason."""
    reached: float = 0
    for i, step in enumerate(steps):
        if not isinstance(step, Embed):
            continue
        # Without `until` everything is embedded, so that no item is left for a later gate.
        limit = step.until or float("inf")
        if limit <= reached:
            yield ("steps", i), "every embed needs a larger `until` than the one before; only the last may omit it"
        reached = max(reached, limit)
    drops, embeds = _places(steps, DropIndexes), _places(steps, Embed)
    reseeds, empties = _places(steps, ReseedQueue), _places(steps, EmptyTables)
    if drops and empties and empties[0] < drops[0]:
        yield ("steps", empties[0]), "drop_indexes must come before empty_tables (an index belongs to its vectors)"
    if embeds and reseeds and embeds[0] < reseeds[-1]:
        yield ("steps", reseeds[-1]), "reseed_queue must come before the first embed"
    if embeds and empties and embeds[0] < empties[-1]:
        yield ("steps", empties[-1]), "empty_tables must come before the first embed (it removes what is embedded)"
    if reseeds and empties and reseeds[0] < empties[-1]:
        yield ("steps", empties[-1]), "empty_tables must come before reseed_queue (it empties the queue)"


def row_order(steps: tuple[Step, ...], *, has_beside: bool) -> Iterator[tuple[Place, str]]:
    """Yield the steps of a campaign over rows that cannot run where they are, each with the reason."""
    order: list[tuple[type[Section], type[Section], str]] = [
        (AddColumn, CaptureWrites, "the trigger comes after the column"),
        (CaptureWrites, SelectRows, "what is written after the selection must be captured"),
        (SelectRows, Embed, "rows are selected before they are embedded"),
        (CaptureWrites, Drain, "nothing is captured before it"),
        (Embed, Compare, "there is nothing to compare before it"),
        (Drain, CutOver, "what the application wrote must be embedded before the columns are exchanged"),
        (Embed, CutOver, "there is nothing to exchange before it"),
    ]
    for first, then, reason in order:
        firsts, thens = _places(steps, first), _places(steps, then)
        if firsts and thens and thens[0] < firsts[0]:
            yield ("steps", thens[0]), f"{_verb(then)} must come after {_verb(first)}: {reason}"
    if _places(steps, Embed) and not _places(steps, SelectRows):
        yield ("steps", _places(steps, Embed)[0]), "embed needs a select_rows before it, which queues the rows"
    for kind in (AddColumn, CaptureWrites, Compare, Drain, CutOver):
        places = _places(steps, kind)
        if places and not has_beside:
            yield ("steps", places[0]), f"{_verb(kind)} needs a target with `write: beside`"
        if len(places) > 1 and kind is not Drain:
            yield ("steps", places[1]), f"{_verb(kind)} can stand only once"
    if has_beside:
        for kind in (AddColumn, CaptureWrites):
            if not _places(steps, kind):
                yield ("steps",), f"a target with `write: beside` needs the step {_verb(kind)}"


def _verb(kind: type[Section]) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).strip("_")


def _places(steps: tuple[Step, ...], kind: type[Section]) -> list[int]:
    return [i for i, step in enumerate(steps) if isinstance(step, kind)]
