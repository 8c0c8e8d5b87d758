"""The steps of a playbook, one model per verb."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

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


Step = Annotated[
    VerifyBuild | DropIndexes | EmptyTables | ReseedQueue | Embed | Validate | RebuildIndexes,
    Field(discriminator="step"),
]


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


def _places(steps: tuple[Step, ...], kind: type[Section]) -> list[int]:
    return [i for i, step in enumerate(steps) if isinstance(step, kind)]
