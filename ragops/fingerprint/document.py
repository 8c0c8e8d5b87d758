"""Fingerprints: captured under any interpreter, kept as one JSON file, compared."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.child_capture import FORMAT, canary_hash
from ragops.embedder.client import Embedder
from ragops.errors import UsageError
from ragops.facts import BuildFacts, ModelFacts
from ragops.playbook.model import Model

LARGEST_FILE = 64 * 1024 * 1024
# Paths, names and thread counts may differ between machines without moving a vector.
_BUILD_KEYS = ("package_version", "features")
_MODEL_KEYS = ("architecture", "dimensions", "n_ctx_train", "n_vocab", "pooling", "max_tokens")


@dataclass(frozen=True, slots=True)
class Canary:
    """The fixed, versioned texts that every fingerprint embeds."""

    version: int
    texts: tuple[str, ...]

    @classmethod
    def load(cls) -> Self:
        document = json.loads(_source("canary.json"))
        return cls(document["version"], tuple(document["texts"]))

    def as_dict(self) -> dict[str, Any]:
        return {"version": self.version, "texts": list(self.texts)}

    @property
    def sha256(self) -> str:
        return canary_hash(self.as_dict())


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One JSON document and its canary vectors."""

    document: Mapping[str, Any]
    rows: tuple[int, ...]
    """Which canary texts have a vector; the others were too long for the model."""
    vectors: NDArray[np.float32]
    """Shape (len(rows), dimensions), unit length."""

    @classmethod
    def parse(cls, document: Mapping[str, Any], *, where: str) -> Self:
        """Raises UsageError for anything that is no complete fingerprint."""
        found = document.get("format")
        if found != FORMAT:
            raise UsageError(
                "this is no fingerprint of a format that ragops knows",
                where=where,
                actual=str(found),
                expected=FORMAT,
                hint="ragops fingerprint capture -o FILE",
            )
        try:
            rows = tuple(int(row) for row in document["rows"])
            raw = base64.b64decode(document["vectors"], validate=True)
            vectors = np.frombuffer(raw, dtype="<f4").reshape(len(rows), int(document["dimensions"]))
            document["canary"]["sha256"], document["tokens"], document["normalisation"]
            for key in ("build", "model", "prefixes"):
                if not isinstance(document[key], dict):
                    raise TypeError(f"{key} is no object")
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise UsageError(
                "the fingerprint is damaged",
                where=where,
                actual=f"{type(error).__name__}: {error}",
                hint="capture it again: ragops fingerprint capture -o FILE",
            ) from error
        return cls(document, rows, vectors.astype(np.float32))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises UsageError when the file cannot be read or is no fingerprint."""
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise UsageError(
                    "the file is too large for a fingerprint", where=str(path), expected="at most 64 MiB"
                )
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(
                "the fingerprint cannot be read",
                where=str(path),
                actual=str(error),
                hint="ragops fingerprint capture -o FILE",
            ) from error
        if not isinstance(document, dict):
            raise UsageError("this is no fingerprint", where=str(path), expected="a JSON object")
        return cls.parse(document, where=str(path))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")


def capture(embedder: Embedder, *, document_prefix: str, query_prefix: str) -> Fingerprint:
    """The fingerprint of a running child. Start it with `tokens_per_batch=1`: batching moves vectors too."""
    document = embedder.capture(Canary.load().as_dict(), prefix=document_prefix, query_prefix=query_prefix)
    return Fingerprint.parse(document, where="the embedder child")


def capture_script() -> str:
    """One Python file that captures a fingerprint under any interpreter with llama_cpp and numpy."""
    parts = {name: _source(f"{name}.py") for name in ("child_engine", "child_capture", "child")}
    canary = Canary.load().as_dict()
    lines = [
        '"""Captures the fingerprint of this interpreter\'s llama.cpp: python capture.py MODEL.gguf -o FILE."""',
        "import json, sys, types",
        f"SOURCES = json.loads({json.dumps(json.dumps(parts))})",
        f"CANARY = json.loads({json.dumps(json.dumps(canary))})",
        "EMBEDDED = {'canary': CANARY}",
        "for _name, _source in SOURCES.items():",
        "    _module = types.ModuleType(_name)",
        "    _module.__file__ = __file__",
        "    sys.modules[_name] = _module",
        "    exec(compile(_source, _name + '.py', 'exec'), _module.__dict__)",
        "    EMBEDDED[_name] = _module",
        "",
    ]
    main = _source("capture_main.py").split("from __future__ import annotations\n", 1)[1]
    return "\n".join(lines) + main


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


def _source(name: str) -> str:
    return resources.files("ragops.embedder").joinpath(name).read_text(encoding="utf-8")
