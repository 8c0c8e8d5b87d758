"""Errors of the embedder child, from its `error` frames and from how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ragops.errors import EmbedderDied, EmbedderError, ModelUnusable

_SIGNAL_HINTS = {
    "SIGILL": "the build of llama.cpp uses instructions that this CPU lacks; "
    "install a build made for this machine, or choose another interpreter",
    "SIGKILL": "another process killed it, often the kernel because memory ran out; "
    "run fewer workers or a smaller model",
    "SIGSEGV": "the model file or the build of llama.cpp may be damaged; compare the file's SHA-256",
    "SIGABRT": "an internal check of llama.cpp failed; the last lines of its log name it (GGML_ASSERT). "
    "If it failed while the model was loaded, lower model.parameters.n_ctx and n_batch",
}
_LIBRARY_ERRORS = {
    "no_llama_cpp": "the interpreter has no llama-cpp-python",
    "broken_llama_cpp": "cannot load the interpreter's llama-cpp-python",
    "old_llama_cpp": "the interpreter's llama-cpp-python is too old",
}
NO_VECTORS = "this model makes no usable vectors"


class TextTooLong(EmbedderError):
    """A text has more tokens than the model accepts; nothing was cut and nothing embedded.

    `index` is its place in the request, `tokens` its length with separators, `allowed` the limit.
    """

    def __init__(self, *, index: int, tokens: int, allowed: int, where: str) -> None:
        super().__init__(
            f"text {index} of the request is too long to embed whole",
            where=where,
            actual=f"{tokens} tokens",
            expected=f"at most {allowed} tokens, separators included",
            hint="make smaller chunks, or raise n_ctx and n_batch up to what the model was trained for",
        )
        self.index = index
        self.tokens = tokens
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class ChildRefusal:
    """One `error` frame of the child; the numbers belong to kind `too_long`."""

    kind: str = "unknown"
    message: str = "no reason given"
    pooling: str = "unknown"
    index: int = 0
    tokens: int = 0
    allowed: int = 0

    @classmethod
    def parse(cls, values: object) -> ChildRefusal:
        """Return the frame's object as a refusal. Raises TypeError and ValueError for other values."""
        if not isinstance(values, Mapping):
            raise TypeError("not an object")
        texts = {name: str(values[name]) for name in ("kind", "message", "pooling") if name in values}
        numbers = {name: int(str(values[name])) for name in ("index", "tokens", "allowed") if name in values}
        return cls(**texts, **numbers)  # type: ignore[arg-type]


def death_error(signal: str | None, returncode: int, *, during: str, tail: str, where: str) -> EmbedderDied:
    """Return the error for a child that ended by itself, by a signal or with an exit status."""
    what = (
        f"the embedder process was killed by {signal}"
        if signal
        else f"the embedder process ended with exit status {returncode}"
    )
    death = EmbedderDied(
        what,
        where=where,
        actual=f"{during}; last output on stderr: {tail}" if tail else f"{during}; no output on stderr",
        expected="a response",
        hint=_SIGNAL_HINTS.get(signal or ""),
    )
    death.returncode = returncode
    return death


def unusable_vectors(model: str, fault: str, *, pooling: str | None = None) -> ModelUnusable:
    """Return the error for a model whose vectors must not be stored."""
    which = f"pooling {pooling}" if pooling else "the pooling"
    return ModelUnusable(
        NO_VECTORS,
        where=model,
        actual=fault,
        expected="a finite vector other than zero for every text, and another one for another text",
        hint="the file may be damaged: compare its SHA-256 with its source's; "
        f"or {which} is not what the model was trained with",
    )


def refusal_error(refusal: ChildRefusal, *, model: str, interpreter: str) -> EmbedderError:
    """Return the error for an `error` frame of the child."""
    match refusal.kind:
        case "too_long":
            return TextTooLong(index=refusal.index, tokens=refusal.tokens, allowed=refusal.allowed, where=model)
        case "model":
            return ModelUnusable(
                "llama.cpp cannot load the model",
                where=model,
                actual=refusal.message,
                expected="a complete GGUF file of an embedding model that this llama.cpp supports",
                hint="compare size and SHA-256 with the file's source; a newer llama-cpp-python may support it",
            )
        case "pooling":
            return ModelUnusable(
                "this model with this pooling gives no vector for a text",
                where=model,
                actual=f"pooling {refusal.pooling}",
                expected="pooling mean, cls or last",
                hint="a reranker or a model without pooling: set `pooling` to what the model was trained with",
            )
        case "attention":
            return ModelUnusable(
                "this model's attention cannot be causal",
                where=model,
                actual=refusal.message,
                expected="model.attention: auto",
                hint="remove model.attention from the playbook",
            )
        case "vectors":
            return unusable_vectors(model, refusal.message)
        case "no_llama_cpp" | "broken_llama_cpp" | "old_llama_cpp":
            install = f"{interpreter} -m pip install llama-cpp-python"
            is_missing = refusal.kind == "no_llama_cpp"
            return EmbedderError(
                _LIBRARY_ERRORS[refusal.kind],
                where=interpreter,
                actual=refusal.message,
                expected="llama-cpp-python 0.3.16 or newer",
                # Without --force-reinstall pip calls a broken installation satisfied.
                hint=install if is_missing else f"{install} --upgrade --force-reinstall",
            )
    whats = {
        "empty": "a text has no tokens, so it has no embedding",
        "vocab_only": "this embedder was started to count tokens, not to embed",
        "compute": "llama.cpp could not compute an embedding",
    }
    what = whats.get(refusal.kind, "the embedder process refused the request")
    return EmbedderError(what, where=model, actual=refusal.message)
