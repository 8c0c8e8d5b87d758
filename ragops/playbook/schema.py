"""The JSON Schema of playbooks, for editors that complete and validate YAML."""

from __future__ import annotations

from typing import Any

from ragops.playbook.model import Playbook

_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
_TYPED = ("integer", "number", "boolean", "string")


def playbook_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of a playbook as it is written, before variables are expanded."""
    made = Playbook.model_json_schema()
    source = made["$defs"]["Source"]["properties"]
    source["patterns"] = source["include"]  # the older word
    schema: dict[str, Any] = _with_variables(made)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _with_variables(part: Any) -> Any:
    """Return a part of the schema in which every typed value may also be `${VARIABLE}`."""
    if isinstance(part, list):
        return [_with_variables(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    changed = {key: _with_variables(value) for key, value in part.items()}
    is_free_text = changed.get("type") == "string" and not {"enum", "pattern"} & changed.keys()
    if is_free_text or changed.get("type") not in _TYPED:
        return changed
    about = {key: changed.pop(key) for key in ("title", "description", "default") if key in changed}
    return {**about, "anyOf": [changed, _VARIABLE]}
