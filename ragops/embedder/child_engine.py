"""The child's engine: one model and one context of llama.cpp, through its low-level functions.

Part of the program `child.py`, which passes the library in, so that nothing here imports llama_cpp; like
the program it uses the standard library and numpy only and keeps to Python 3.9.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections import deque
from pathlib import Path
from typing import Any

# enum llama_pooling_type: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h
POOLINGS = {-1: "unspecified", 0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}
# Those that give one vector per text: `none` gives one per token, `rank` a score.
USABLE_POOLINGS = {"mean": 1, "cls": 2, "last": 3}
# enum llama_attention_type; what is not listed leaves it to the model.
ATTENTIONS = {"causal": 0, "non-causal": 1}
# LLAMA_MAX_SEQ of the oldest supported versions (src/llama-cparams.h; 256 in later ones).
SEQUENCES_PER_BATCH = 64
# Batches beyond a few hundred tokens only cost time and, as every token attends to every other, memory; from about
# 100,000 on llama.cpp aborts (GGML_ASSERT(ggml_can_mul_mat(a, b)) in 0.3.36).
LARGEST_BATCH = 8192
# enum ggml_log_level; the second marks the continuation of the message before.
LEVEL_ERROR, LEVEL_CONTINUES = 4, 5


class Refusal(Exception):
    """A request or a start that cannot be served; `frame` is the `error` frame for the parent."""

    def __init__(self, kind: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.frame = {"error": {"kind": kind, "message": message, **extra}}


class Log:
    """llama.cpp's log: everything to stderr if verbose, else errors only; keeps the last errors."""

    def __init__(self, lib: Any, *, verbose: bool) -> None:
        self.errors: deque[str] = deque(maxlen=3)
        self._verbose = verbose
        self._level = 0
        self._callback = lib.llama_log_callback(self._write)  # kept: ctypes holds no reference to it
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _write(self, level: int, text: bytes, _data: object) -> None:
        self._level = self._level if level == LEVEL_CONTINUES else level
        if self._level == LEVEL_ERROR:
            self.errors.append(text.decode("utf-8", "replace").strip())
        if self._verbose or self._level == LEVEL_ERROR:
            with contextlib.suppress(OSError):  # a closed stderr must not end the request
                os.write(2, text)


class Engine:
    """One model and, unless `vocab_only`, one context; tokenises and embeds. Raises Refusal on start."""

    def __init__(self, lib: Any, config: dict[str, Any], vocabulary: Any) -> None:
        """`vocabulary` is the class of `child_vocabulary.py`, which nothing here can import."""
        self.lib = lib
        self.config = config
        self.log = Log(lib, verbose=bool(config.get("verbose")))
        lib.llama_backend_init()
        # GCC 12 drops stores that prepare AMX's tile configuration, and the first multiplication of repacked
        # weights then ends in a segmentation fault; without repacking llama.cpp does not use AMX.
        repack = config.get("use_extra_bufts")
        has_amx = b"AMX" in lib.llama_print_system_info()
        self.extra_buffers = not has_amx if repack is None else bool(repack)
        self.model = self._load()
        self.architecture = self.meta("general.architecture") or "unknown"
        self.vocabulary = vocabulary(
            lib, lib.llama_model_get_vocab(self.model), meta=self.meta, architecture=self.architecture
        )
        causal = self.meta(f"{self.architecture}.attention.causal")
        self.is_decoder = causal != "false" and "bert" not in self.architecture
        self.own_attention = "causal" if self.is_decoder else "non-causal"
        asked = str(config.get("attention", "auto"))
        self.attention = asked if asked in ATTENTIONS else self.own_attention
        self.pooling_is_guessed = False
        pooling = str(config.get("pooling", "auto"))
        declared = self.meta(f"{self.architecture}.pooling_type")
        if pooling == "auto" and declared is not None:
            pooling = POOLINGS.get(int(declared), declared)
        elif pooling == "auto":
            self.pooling_is_guessed = True
            pooling = "last" if self.is_decoder else "mean"
        if pooling not in USABLE_POOLINGS and not config.get("vocab_only"):
            raise Refusal("pooling", f"pooling {pooling!r} gives no vector for a text", pooling=pooling)
        self.pooling = pooling
        self._set_sizes()
        self.context: Any = None
        self.memory: Any = None
        if not config.get("vocab_only"):
            self._open_context()

    def _load(self) -> Any:
        params = self.lib.llama_model_default_params()
        fields = {name for name, *_ in params._fields_}
        # Later versions default to offloading every layer they can.
        params.n_gpu_layers = 0
        params.vocab_only = bool(self.config.get("vocab_only"))
        if "use_extra_bufts" in fields:
            params.use_extra_bufts = self.extra_buffers
        # Mapped, so that the workers of a host share one copy of the weights.
        if "use_mmap" in fields:
            params.use_mmap = True
        elif "load_mode" in fields:  # replaces use_mmap in later versions: 0 reads, 1 maps
            params.load_mode = 1
        model = self.lib.llama_model_load_from_file(os.fsencode(self.config["model"]), params)
        if not model:
            raise Refusal("model", " / ".join(self.log.errors) or "llama.cpp gave no reason")
        return model

    def meta(self, key: str) -> str | None:
        """Return a scalar of the GGUF's metadata as text; None if it is absent."""
        buffer = ctypes.create_string_buffer(4096)
        # Declared as c_char_p by every version, which accepts an array of bytes to write into.
        length = self.lib.llama_model_meta_val_str(self.model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    def _set_sizes(self) -> None:
        """Set dimensions and context as loaded, and the sizes that follow from the configuration."""
        lib, config = self.lib, self.config
        if config.get("vocab_only"):  # the hyperparameters are not loaded then
            trained = int(self.meta(f"{self.architecture}.context_length") or 0)
            self.dimensions = int(self.meta(f"{self.architecture}.embedding_length") or 0)
        else:
            trained = lib.llama_model_n_ctx_train(self.model)
            # Models with an output projection have other dimensions than inside; 0.3.16 lacks the function.
            output = getattr(lib, "llama_model_n_embd_out", lib.llama_model_n_embd)
            self.dimensions = output(self.model) or lib.llama_model_n_embd(self.model)
        # Fewer than the model's: each vector is cut to its first values (Matryoshka). More cannot be made.
        self.full_dimensions = self.dimensions
        wanted = int(config.get("dimensions") or 0)
        if 0 < wanted < self.full_dimensions:
            self.dimensions = wanted
        n_ctx = int(config.get("n_ctx", 0))
        self.n_ctx_train = trained
        self.n_ctx = n_ctx if 0 < n_ctx <= trained else trained
        n_batch = int(config.get("n_batch", 0)) or self.n_ctx
        self.max_tokens = min(self.n_ctx, n_batch)
        self.tokens_per_batch = min(max(1, int(config.get("tokens_per_batch", 256))), n_batch, LARGEST_BATCH)

    def _open_context(self) -> None:
        lib, config = self.lib, self.config
        if lib.llama_model_has_encoder(self.model) and lib.llama_model_has_decoder(self.model):
            raise Refusal("model", "encoder-decoder models have no embedding of a text")
        params = lib.llama_context_default_params()
        # An encoder processes its batch at once, so all three sizes are the largest batch.
        capacity = max(self.max_tokens, self.tokens_per_batch)
        params.n_ctx = params.n_batch = params.n_ubatch = capacity
        # Without a unified cache every sequence would get only its share of n_ctx.
        is_unified = any(name == "kv_unified" for name, *_ in params._fields_)
        if is_unified:
            params.kv_unified = True
        params.n_seq_max = min(SEQUENCES_PER_BATCH, capacity) if is_unified else 1
        params.n_threads = params.n_threads_batch = max(1, int(config.get("n_threads", 1)))
        params.embeddings = True
        params.pooling_type = USABLE_POOLINGS[self.pooling]
        if config.get("attention") in ATTENTIONS:
            params.attention_type = ATTENTIONS[config["attention"]]
        params.type_k = params.type_v = 1 if config.get("f16_kv", True) else 0
        params.offload_kqv = not config.get("low_vram", False)
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise Refusal("model", " / ".join(self.log.errors) or "llama.cpp could not create a context")
        self.memory = lib.llama_get_memory(self.context)
        self.is_decoder = bool(self.memory) and not lib.llama_model_has_encoder(self.model)
        causal = self.meta(f"{self.architecture}.attention.causal")
        self.own_attention = "causal" if self.is_decoder and causal != "false" else "non-causal"
        if config.get("attention") == "causal" and not self.is_decoder:
            # llama_encode attends to both sides whatever the context says (measured with 0.3.36): the setting
            # would have no effect, and the fingerprint would say otherwise.
            raise Refusal("attention", f"{self.architecture} is an encoder: each token attends to both sides")
        if config.get("attention") not in ATTENTIONS:
            self.attention = self.own_attention
        self.pooling = POOLINGS.get(lib.llama_pooling_type(self.context), "unspecified")
        self.n_seq_max = params.n_seq_max
        self.batch = lib.llama_batch_init(capacity, 0, 1)
        self.columns = self._columns(capacity)

    def _columns(self, capacity: int) -> dict[str, Any]:
        """Return the batch's columns as arrays of `capacity` tokens: a text is one assignment, not a loop."""
        import numpy as np

        batch, view = self.batch, np.ctypeslib.as_array
        # llama.cpp stores each token's sequences behind a pointer: here all point into one array.
        sequence = np.zeros(capacity, np.int32)
        for at in range(capacity):
            batch.n_seq_id[at] = 1
            batch.logits[at] = 1
            batch.seq_id[at] = ctypes.cast(sequence.ctypes.data + 4 * at, type(batch.seq_id[at]))
        return {
            "token": view(batch.token, shape=(capacity,)),
            "pos": view(batch.pos, shape=(capacity,)),
            "sequence": sequence,
            "positions": np.arange(capacity, dtype=np.int32),
        }

    def facts(self) -> dict[str, object]:
        """Return the model's facts: everything in ModelFacts but the hash."""
        config = self.config
        description = ctypes.create_string_buffer(256)
        self.lib.llama_model_desc(self.model, description, len(description))
        suffixes = {kind: str(config.get(f"{kind}_suffix", "")) for kind in ("document", "query")}
        unlisted = ("model", "verbose", "dimensions", *(f"{kind}_suffix" for kind in suffixes))
        requested = {name: value for name, value in config.items() if name not in unlisted}
        effective = {
            "pooling": self.pooling,
            "attention": self.attention,
            "n_ctx": self.n_ctx,
            "tokens_per_batch": self.tokens_per_batch,
            "f16_kv": bool(config.get("f16_kv", True)),
            "low_vram": bool(config.get("low_vram", False)),
            "use_mmap": True,
            "use_extra_bufts": self.extra_buffers,
            "n_gpu_layers": 0,
            "vocab_only": bool(config.get("vocab_only")),
        }
        if self.context:
            for name in ("n_batch", "n_ubatch", "n_seq_max", "n_threads"):
                effective[name] = int(getattr(self.lib, f"llama_{name}")(self.context))
        cut = {} if self.dimensions == self.full_dimensions else {"full_dimensions": self.full_dimensions}
        return {
            **cut,
            "path": config["model"],
            "file_bytes": Path(config["model"]).stat().st_size,
            "architecture": self.architecture,
            "name": self.meta("general.name") or "",
            "description": description.value.decode("utf-8", "replace"),
            "dimensions": self.dimensions,
            "n_ctx_train": self.n_ctx_train,
            "n_vocab": self.vocabulary.size,
            "n_params": self.lib.llama_model_n_params(self.model),
            "pooling": self.pooling,
            "is_decoder": self.is_decoder,
            "max_tokens": self.max_tokens,
            "pooling_is_guessed": self.pooling_is_guessed,
            "attention": self.attention,
            "attention_is_changed": self.attention != self.own_attention,
            "end_token": self.vocabulary.end_token,
            "ends_with": self.vocabulary.ends_with,
            "suffix_tokens": {kind: self.vocabulary.special_tokens(text) for kind, text in suffixes.items()},
            "unknown_token": self.vocabulary.unknown_token,
            "requested": {name: "auto" if value is None else value for name, value in requested.items()},
            "effective": effective,
        }

    def tokenise(self, text: str, suffix: str = "") -> Any:
        """Return the text's tokens, with the suffix's and with separators. Raises Refusal."""
        try:
            return self.vocabulary.tokenise(text, suffix)
        except ValueError as error:
            raise Refusal("tokens", str(error)) from None

    def embed(
        self, texts: list[str], tokens_per_batch: int | None = None, *, suffix: str = ""
    ) -> tuple[list[int], bytes]:
        """Return token counts, and the raw pooled vectors (n x d, float32) in the order of the texts."""
        tokens = [self.tokenise(text, suffix) for text in texts]
        return [len(ids) for ids in tokens], self.embed_tokens(tokens, tokens_per_batch)

    def embed_tokens(self, tokens: list[Any], tokens_per_batch: int | None = None) -> bytes:
        """Return the raw pooled vectors (n x d, float32) of texts as token ids, separators included.

        `tokens_per_batch` makes batches of this request smaller than the configured ones; 1: every text alone.
        Nothing is ever cut: raises Refusal for a text that is too long or empty, and for a failed batch.
        """
        import numpy as np

        if not self.context:
            raise Refusal("vocab_only", "this embedder was started to count tokens only")
        counts = [len(ids) for ids in tokens]
        for index, count in enumerate(counts):
            if count > self.max_tokens:
                message = f"text {index} has {count} tokens, {self.max_tokens} are allowed"
                raise Refusal("too_long", message, index=index, tokens=count, allowed=self.max_tokens)
            if count == 0:
                raise Refusal("empty", f"text {index} has no tokens", index=index)
        vectors = np.empty((len(tokens), self.dimensions), dtype="<f4")
        room = min(self.tokens_per_batch, tokens_per_batch or self.tokens_per_batch)
        for group in self._groups(counts, room):
            self._run([tokens[index] for index in group])
            for sequence, index in enumerate(group):
                pooled = self.lib.llama_get_embeddings_seq(self.context, sequence)
                if not pooled:
                    raise Refusal("compute", "llama.cpp returned no embedding", index=index)
                # Of a vector that is cut, only its first values are read; who uses them normalises them.
                vectors[index] = np.ctypeslib.as_array(pooled, shape=(self.dimensions,))
        return vectors.tobytes()

    def _groups(self, counts: list[int], tokens_per_batch: int) -> list[list[int]]:
        """Return the indexes of texts, grouped into batches of so many tokens; a longer text goes alone.

        Every token of a batch attends to every other, so short and long texts do not share one.
        """
        groups: list[list[int]] = []
        room = 0
        for index in sorted(range(len(counts)), key=counts.__getitem__):
            if not groups or counts[index] > room or len(groups[-1]) >= self.n_seq_max:
                groups.append([])
                room = max(tokens_per_batch, counts[index])
            groups[-1].append(index)
            room -= counts[index]
        return groups

    def _run(self, sequences: list[Any]) -> None:
        """Compute one batch. Raises Refusal if llama.cpp returns an error."""
        batch, at = self.batch, 0
        for sequence, ids in enumerate(sequences):
            until = at + len(ids)
            self.columns["token"][at:until] = ids
            self.columns["pos"][at:until] = self.columns["positions"][: len(ids)]
            self.columns["sequence"][at:until] = sequence
            at = until
        batch.n_tokens = at
        self.log.errors.clear()
        if self.memory:  # a decoder would attend to the batch before
            self.lib.llama_memory_clear(self.memory, True)
        process = self.lib.llama_decode if self.is_decoder else self.lib.llama_encode
        status = process(self.context, batch)
        if status != 0:
            raise Refusal("compute", f"llama.cpp returned {status}: {' / '.join(self.log.errors)}")
