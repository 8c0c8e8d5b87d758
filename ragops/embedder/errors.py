"""What an embedder child says or how it ends, as errors of the tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragops.errors import EmbedderDied, EmbedderError, ModelUnusable

_SIGNAL_HINTS = {
    "SIGILL": "the build of llama.cpp uses instructions that this CPU lacks; "
    "install a build made for this machine, or choose another interpreter",
    "SIGKILL": "another process ended it, often the system because memory ran out; "
    "run fewer workers or a smaller model",
    "SIGSEGV": "the model file or the build of llama.cpp may be damaged; compare the file's SHA-256",
    "SIGABRT": "llama.cpp gave up on an internal check; the last lines of its log say which",
}
GGUF_MAGIC = b"GGUF"


class TextTooLong(EmbedderError):
    """A text has more tokens than the model takes; nothing was cut and nothing embedded.

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


def check_model_file(path: Path) -> None:
    """Raise ModelUnusable when the file is missing, unreadable or no GGUF; reads 4 bytes."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise ModelUnusable(
            "the model file does not exist", where=str(path), expected="a GGUF file of an embedding model"
        ) from None
    except OSError as error:
        raise ModelUnusable(
            "the model file cannot be read", where=str(path), actual=error.strerror or str(error)
        ) from error
    if magic != GGUF_MAGIC:
        raise ModelUnusable(
            "the model file is not a GGUF file",
            where=str(path),
            actual=f"a file that starts with {magic!r}" if magic else "an empty file",
            expected=f"a file that starts with {GGUF_MAGIC!r}",
            hint="a download that broke off or a web page saved in its place looks like this",
        )


def death(name: str | None, returncode: int, *, during: str, tail: str, where: str) -> EmbedderDied:
    """The error for a child that ended by itself; `name` is its signal, where there was one."""
    what = (
        f"the embedder child was killed by {name}"
        if name
        else f"the embedder child ended with exit status {returncode}"
    )
    return EmbedderDied(
        what,
        where=where,
        actual=f"{during}; its last words: {tail}" if tail else f"{during}; it said nothing",
        expected="an answer",
        hint=_SIGNAL_HINTS.get(name or ""),
    )


def refusal(error: Mapping[str, Any], *, model: str, interpreter: str) -> EmbedderError:
    """The error for an `error` frame of the child."""
    kind = str(error.get("kind", "unknown"))
    message = str(error.get("message", "no reason given"))
    if kind == "too_long":
        return TextTooLong(
            index=int(error["index"]), tokens=int(error["found"]), allowed=int(error["allowed"]), where=model
        )
    if kind in ("model", "pooling"):
        return _unusable(kind, message, error, model)
    if kind in ("no_llama_cpp", "broken_llama_cpp", "old_llama_cpp"):
        return _no_library(kind, message, interpreter)
    whats = {
        "empty": "a text has no tokens and so no embedding",
        "vocab_only": "this embedder was started to count tokens, not to embed",
        "compute": "llama.cpp could not compute an embedding",
    }
    return EmbedderError(whats.get(kind, "the embedder child refused the request"), where=model, actual=message)


def _unusable(kind: str, message: str, error: Mapping[str, Any], model: str) -> ModelUnusable:
    if kind == "model":
        return ModelUnusable(
            "llama.cpp cannot load the model",
            where=model,
            actual=message,
            expected="a whole GGUF file of an embedding model that this llama.cpp knows",
            hint="compare the file's size and SHA-256 with its source; a newer llama-cpp-python may know it",
        )
    return ModelUnusable(
        "the model and the pooling give no vector for a text",
        where=model,
        actual=f"pooling {error.get('pooling', 'unknown')}",
        expected="pooling mean, cls or last",
        hint="a reranker or a model without pooling: set `pooling` to what the model was trained with",
    )


def _no_library(kind: str, message: str, interpreter: str) -> EmbedderError:
    install = f"{interpreter} -m pip install llama-cpp-python"
    whats = {
        "no_llama_cpp": "the interpreter has no llama-cpp-python",
        "broken_llama_cpp": "the interpreter's llama-cpp-python cannot be loaded",
        "old_llama_cpp": "the interpreter's llama-cpp-python is too old",
    }
    return EmbedderError(
        whats[kind],
        where=interpreter,
        actual=message,
        expected="llama-cpp-python 0.3.16 or newer",
        hint=install if kind == "no_llama_cpp" else f"{install} --upgrade --force-reinstall",
    )
