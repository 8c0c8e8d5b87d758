"""What identifies a vector space, as far as one loaded model tells: build, weights, pooling, prefixes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from ragops.facts import BuildFacts, ModelFacts
from ragops.playbook.model import Model

# Paths, names and thread counts may differ between machines without moving a vector.
_BUILD_KEYS = ("package_version", "features")
_MODEL_KEYS = ("architecture", "dimensions", "n_ctx_train", "n_vocab", "pooling", "max_tokens")


def fingerprint_of(
    build: BuildFacts, model: ModelFacts, settings: Model, *, sha256: str
) -> tuple[str, dict[str, Any]]:
    """The fingerprint's id (16 hexadecimal digits) and its document."""
    build_facts, model_facts = asdict(build), asdict(model)
    identity = {
        "build": {key: build_facts[key] for key in _BUILD_KEYS},
        "model": {key: model_facts[key] for key in _MODEL_KEYS} | {"sha256": sha256},
        "query_prefix": settings.query_prefix,
        "document_prefix": settings.document_prefix,
        "normalisation": "l2",
    }
    text = json.dumps(identity, sort_keys=True, default=dict)
    document = {"identity": identity, "build": build_facts, "model": model_facts}
    return hashlib.sha256(text.encode()).hexdigest()[:16], json.loads(json.dumps(document, default=dict))
