"""Fingerprints: captured under any interpreter, stored as one JSON file, compared."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Self, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from ragops.embedder.child_capture import FORMAT, canary_hash
from ragops.embedder.client import Embedder
from ragops.errors import UsageError
from ragops.facts import BuildFacts, HostFacts, ModelFacts
from ragops.playbook.model import Model

# A fingerprint of 93 texts in 4,096 dimensions has 2 MB: a larger file is something else.
LARGEST_FILE = 64 * 1024 * 1024
# Fields that move a vector. Paths, names and thread counts may differ between machines without moving one.
# Another choice here changes the ids in every ledger: the same workers would look like others.
_BUILD_KEYS = ("package_version", "features")
_MODEL_KEYS = ("architecture", "dimensions", "n_ctx_train", "n_vocab", "pooling", "max_tokens")


class CanarySection(TypedDict):
    """Which texts a fingerprint embeds."""

    version: int
    sha256: str


class PrefixSection(TypedDict):
    """What is put before a text."""

    document: str
    query: str


class LibraryFile(TypedDict):
    """A shared library of the build, with its size in bytes."""

    name: str
    bytes: int
    sha256: str


class BuildSection(TypedDict, total=False):
    """BuildFacts, and what only a fingerprint records; empty for an endpoint, which reports nothing of it."""

    python: str
    python_version: str
    package_version: str
    system_info: str
    features: dict[str, str]
    platform: str
    ggml_version: str | None
    ggml_commit: str | None
    libraries: list[LibraryFile]
    cmake_args: str | None


class ModelSection(TypedDict, total=False):
    """ModelFacts and the GGUF's metadata; for an endpoint its URL and what it reports."""

    path: str
    file_bytes: int
    architecture: str
    name: str
    description: str
    dimensions: int
    n_ctx_train: int
    n_vocab: int
    n_params: int
    pooling: str
    is_decoder: bool
    max_tokens: int
    requested: dict[str, int | bool | str]
    effective: dict[str, int | bool | str]
    # Absent in fingerprints of older versions.
    full_dimensions: int
    pooling_is_guessed: bool
    attention: str
    attention_is_changed: bool
    end_token: str
    ends_with: str
    suffix_tokens: dict[str, list[str]]
    unknown_token: int | None
    sha256: str
    shards: list[str]
    weights: str | None
    metadata: dict[str, str]
    endpoint: str


class SuffixSection(TypedDict):
    """What follows a text; absent in fingerprints of versions that had no suffixes."""

    document: str
    query: str


class RequiredSections(TypedDict):
    """What every fingerprint has, also one of an endpoint."""

    canary: CanarySection
    build: BuildSection
    model: ModelSection
    prefixes: PrefixSection
    # `l2`: the vectors were divided by their length; `unknown` for an endpoint.
    normalisation: str
    # Length of every canary text, separators included; empty for an endpoint.
    tokens: list[int]


class FingerprintDocument(RequiredSections, total=False):
    """The JSON file of a fingerprint, format `ragops-fingerprint/1`."""

    format: str
    suffixes: SuffixSection
    captured_at: str
    host: dict[str, Any]
    rows: list[int]
    pooled_norm: dict[str, float] | None
    dimensions: int
    # Base64 of float32, little-endian, row by row.
    vectors: str


@dataclass(frozen=True, slots=True)
class Canary:
    """The fixed, versioned texts that every fingerprint embeds."""

    version: int
    texts: tuple[str, ...]

    @classmethod
    def load(cls) -> Self:
        """Return the texts of this version of ragops."""
        document = json.loads(_source("canary.json"))
        return cls(document["version"], tuple(document["texts"]))

    def to_json(self) -> dict[str, object]:
        """Return the texts as the child takes them."""
        return {"version": self.version, "texts": list(self.texts)}

    @property
    def sha256(self) -> str:
        return canary_hash(self.to_json())


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One captured document and its canary vectors."""

    document: FingerprintDocument
    # Canary texts that have a vector; the others were too long for the model.
    rows: tuple[int, ...]
    # Shape (len(rows), dimensions), unit length.
    vectors: NDArray[np.float32]

    @classmethod
    def parse(cls, document: Mapping[str, Any], *, where: str) -> Self:
        """Return the fingerprint in a JSON object. Raises UsageError unless it is a complete one."""
        actual = document.get("format")
        if actual != FORMAT:
            raise UsageError(
                "not a fingerprint in a format that ragops knows",
                where=where,
                actual=str(actual),
                expected=FORMAT,
                hint="ragops fingerprint capture -o FILE",
            )
        try:
            rows = tuple(int(row) for row in document["rows"])
            raw = base64.b64decode(document["vectors"], validate=True)
            vectors = np.frombuffer(raw, dtype="<f4").reshape(len(rows), int(document["dimensions"]))
            # Files come from other machines and versions: whatever the comparison reads must be there.
            document["canary"]["sha256"], document["tokens"], document["normalisation"]
            for key in ("build", "model", "prefixes"):
                if not isinstance(document[key], dict):
                    raise TypeError(f"{key} is not an object")
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise UsageError(
                "the fingerprint is damaged",
                where=where,
                actual=f"{type(error).__name__}: {error}",
                hint="capture it again: ragops fingerprint capture -o FILE",
            ) from error
        return cls(cast(FingerprintDocument, document), rows, vectors.astype(np.float32))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the fingerprint in a file. Raises UsageError if it cannot be read or is not one."""
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise UsageError(
                    "the file is too large for a fingerprint", where=str(path), expected="at most 64 MiB"
                )
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(
                "cannot read the fingerprint",
                where=str(path),
                actual=str(error),
                hint="ragops fingerprint capture -o FILE",
            ) from error
        if not isinstance(document, dict):
            raise UsageError("not a fingerprint", where=str(path), expected="a JSON object")
        return cls.parse(document, where=str(path))

    def save(self, path: Path) -> None:
        """Write the document to a file."""
        path.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")

    def cut_like(self, other: Fingerprint) -> Self:
        """Return the fingerprint with its vectors cut as the other's are, where these are whole (Matryoshka).

        A vector keeps its length, so that one which was not normalised still shows.
        """
        size, full = other.vectors.shape[1], other.document["model"].get("full_dimensions")
        if full is None or self.vectors.shape[1] != full:
            return self
        whole = np.linalg.norm(self.vectors.astype(np.float64), axis=1, keepdims=True)
        cut = self.vectors[:, :size].astype(np.float64)
        rest = np.linalg.norm(cut, axis=1, keepdims=True)
        scaled = cut * np.divide(whole, rest, out=np.ones_like(whole), where=rest > 0)
        return replace(self, vectors=scaled.astype(np.float32))

    def on_host(self, host: HostFacts) -> Self:
        """Return the fingerprint with the facts of the machine that captured it."""
        section = {**self.document.get("host", {}), "archspec": asdict(host)}
        return replace(self, document={**self.document, "host": section})


def capture(
    embedder: Embedder,
    *,
    document_prefix: str,
    query_prefix: str,
    document_suffix: str = "",
    query_suffix: str = "",
) -> Fingerprint:
    """Capture the fingerprint of a running child. Start it with `tokens_per_batch=1`: batches move vectors."""
    document = embedder.capture(
        Canary.load().to_json(),
        prefix=document_prefix,
        query_prefix=query_prefix,
        suffix=document_suffix,
        query_suffix=query_suffix,
    )
    return Fingerprint.parse(document, where="the embedder process")


def capture_script() -> str:
    """Return one Python file that captures a fingerprint under any interpreter with llama_cpp and numpy."""
    parts = {
        name: _source(f"{name}.py")
        for name in ("child_files", "child_engine", "child_vocabulary", "child_capture", "child")
    }
    # The text that the child loads from there, for one answer on both machines.
    parts = {"standalone": _source("standalone.py", package="ragops.builds"), **parts}
    canary = Canary.load().to_json()
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


class WorkerIdentity(NamedTuple):
    """What the ledger stores of the workers that wrote a row."""

    fingerprint_id: str
    # `identity` (what the id is the hash of), `build` and `model`.
    document: dict[str, object]


def fingerprint_of(build: BuildFacts, model: ModelFacts, settings: Model, *, sha256: str) -> WorkerIdentity:
    """Return the id (16 hexadecimal digits) of what moves the workers' vectors, and its document.

    The id names a configuration; a `Fingerprint` holds vectors that were measured under one.
    """
    build_facts, model_facts = asdict(build), asdict(model)
    identity: dict[str, Any] = {
        "build": {key: build_facts[key] for key in _BUILD_KEYS},
        "model": {key: model_facts[key] for key in _MODEL_KEYS} | {"sha256": sha256},
        "query_prefix": settings.query_prefix,
        "document_prefix": settings.document_prefix,
        "normalisation": "l2",
    }
    # Only where they are set: the ids of spaces without them stay what they were before there were suffixes.
    suffixes = {"query_suffix": settings.query_suffix, "document_suffix": settings.document_suffix}
    identity |= {name: suffix for name, suffix in suffixes.items() if suffix}
    if model.attention_is_changed:
        identity["model"] |= {"attention": model.attention}
    text = json.dumps(identity, sort_keys=True, default=dict)
    document = {"identity": identity, "build": build_facts, "model": model_facts}
    fingerprint_id = hashlib.sha256(text.encode()).hexdigest()[:16]
    return WorkerIdentity(fingerprint_id, json.loads(json.dumps(document, default=dict)))


def _source(name: str, *, package: str = "ragops.embedder") -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
