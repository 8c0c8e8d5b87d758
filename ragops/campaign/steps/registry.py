"""The registry of steps: a new verb is one file beside this one, and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ragops.campaign.steps import (
    add_column,
    capture_writes,
    compare,
    cut_over,
    drain,
    drop_indexes,
    embed,
    empty_tables,
    rebuild_indexes,
    reseed_queue,
    select_rows,
    validate,
    verify_build,
)
from ragops.campaign.steps.base import Step
from ragops.playbook.steps import Step as Settings

# Verb → what makes the step from its settings, in the order of the runbook.
STEPS: Mapping[str, Callable[[Any], Step]] = {
    "verify_build": verify_build.VerifyBuildStep,
    "drop_indexes": drop_indexes.DropIndexesStep,
    "empty_tables": empty_tables.EmptyTablesStep,
    "reseed_queue": reseed_queue.ReseedQueueStep,
    "add_column": add_column.AddColumnStep,
    "capture_writes": capture_writes.CaptureWritesStep,
    "select_rows": select_rows.SelectRowsStep,
    "embed": embed.EmbedStep,
    "validate": validate.ValidateStep,
    "rebuild_indexes": rebuild_indexes.RebuildIndexesStep,
    "compare": compare.CompareStep,
    "drain": drain.DrainStep,
    "cut_over": cut_over.CutOverStep,
}


def step_of(settings: Settings) -> Step:
    """Return the step for its settings. A test checks that every verb of the playbook has an entry."""
    return STEPS[settings.step](settings)
