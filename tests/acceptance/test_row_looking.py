"""Commands that look, on two targets: a composite key and a condition, quoted names and halfvec."""

from __future__ import annotations

from pathlib import Path

import row_targets
from workplace import Workplace

TOUCH = (
    "ALTER TABLE kb.articles ADD changed int NOT NULL DEFAULT 0",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.changed := OLD.changed + 1; RETURN NEW; END $$",
    "CREATE TRIGGER touch BEFORE UPDATE ON kb.articles FOR EACH ROW EXECUTE FUNCTION touch()",
    'ALTER TABLE "Knowledge Base"."Doc Store" ADD changed int NOT NULL DEFAULT 0',
    'CREATE TRIGGER touch BEFORE UPDATE ON "Knowledge Base"."Doc Store" FOR EACH ROW EXECUTE FUNCTION touch()',
)


def test_triggers_fire_or_not_as_their_target_says(place: Workplace, tiny_model: Path) -> None:
    targets = row_targets.TARGETS.replace(
        "where: deleted_at IS NULL", "where: deleted_at IS NULL\n    triggers: disable"
    )
    row_targets.install(place, tiny_model, targets=targets + "    triggers: fire\n")
    place.execute(*TOUCH)
    done = place.ragops("reset", "--playbook", "rows.yaml", "--yes", "--json")
    assert done.code == 0, done.err
    assert place.value("SELECT sum(changed) FROM kb.articles") == 0
    assert place.value('SELECT sum(changed) FROM "Knowledge Base"."Doc Store"') == 20
