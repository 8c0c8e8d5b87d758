"""Say what a model leaves to guesses, and what the playbook's suffixes do to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from ragops.facts import ModelFacts
from ragops.findings import Finding
from ragops.playbook.model import Model

# As special tokens are spelt: `<|endoftext|>`, `</s>`, `[SEP]`.
_MARKUP = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")


def model_advice(settings: Model, model: ModelFacts) -> Iterator[Finding]:
    """Yield what an operator should decide about dimensions, pooling and ends of texts; nothing is refused."""
    if model.full_dimensions is not None:
        message = (
            f"vectors are cut to {model.dimensions:,} of {model.full_dimensions:,} dimensions (Matryoshka); "
            "the model must have been trained for it"
        )
        hint = f"model.dimensions: {model.full_dimensions}   or no such line, for whole vectors"
        yield Finding("cut-dimensions", "warning", message, hint)
    if model.pooling_is_guessed:
        kind = "decoder" if model.is_decoder else "encoder"
        message = (
            f"neither the file nor the playbook names a pooling: {model.pooling} is a guess, because the model is "
            f"{'a' if model.is_decoder else 'an'} {kind}"
        )
        others = " or ".join(name for name in ("mean", "cls", "last") if name != model.pooling)
        hint = f"model.pooling: {model.pooling}   in the playbook (or {others}, whichever the backend uses)"
        yield Finding("pooling-guessed", "warning", message, hint)
    suffixes = {"document": settings.document_suffix, "query": settings.query_suffix}
    for kind, suffix in suffixes.items():
        found = list(model.suffix_tokens.get(kind, ()))
        key = f"model.{kind}_suffix"
        if _MARKUP.search(suffix) and not found:
            message = f"{key} {suffix!r} has no special token of this model: it is embedded as ordinary text"
            yield Finding("suffix-is-text", "warning", message, _line(key, model.end_token))
        elif found and found[-1] == model.ends_with:
            message = (
                f"{key} ends with {found[-1]}, which this tokenizer puts after every text by itself: "
                "it stands there twice"
            )
            yield Finding("suffix-twice", "warning", message, f"remove {key} if the backend has it once")
    if model.pooling == "last" and model.end_token and not model.ends_with:
        bare = [kind for kind in suffixes if not model.suffix_tokens.get(kind)]
        if bare:
            message = (
                f"last-token pooling, but {' and '.join(_plural(kind) for kind in bare)} do not end with an "
                f"end-of-sequence token (EOS): this tokenizer adds none. Models trained with one lose accuracy"
            )
            lines = "   and   ".join(_line(f"model.{kind}_suffix", model.end_token) for kind in bare)
            yield Finding("eos-missing", "warning", message, f"{lines}   in the playbook, if the backend has it")


def _plural(kind: str) -> str:
    return {"document": "documents", "query": "queries"}[kind]


def _line(key: str, token: str) -> str:
    """Return the playbook's line; JSON's quotes are YAML's."""
    return f"{key}: {json.dumps(token, ensure_ascii=False)}" if token else f"remove {key}"
