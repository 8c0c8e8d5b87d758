"""Every layout is what it should be before ragops touches it: wrong at first, right with right vectors."""

from __future__ import annotations

import pytest

from clients.stage import Stage, named


@pytest.mark.parametrize("layout", named())
def test_wrong_vectors_find_wrong_documents(stage: Stage) -> None:
    stage.store.assert_wrong(stage.application)
