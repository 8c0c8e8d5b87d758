"""The child's engine: one model and one context of llama.cpp, through its low-level functions.

Part of the program `child.py`, which hands the library in, so that nothing here imports llama_cpp;
like the program it stands on the standard library and numpy alone and keeps to Python 3.9.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections import deque
from pathlib import Path
from typing import Any

POOLINGS = {-1: "unspecified", 0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}
USABLE_POOLINGS = {"mean": 1, "cls": 2, "last": 3}
SEQUENCES_PER_BATCH = 64
LEVEL_ERROR, LEVEL_CONTINUES = 4, 5


class Refusal(Exception):
    """A request or a start that cannot be served; goes to the parent as an `error` frame."""

    def __init__(self, kind: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.frame = {"error": {"kind": kind, "message": message, **extra}}


class Log:
    """llama.cpp's log: everything to stderr when verbose, else errors only; keeps the last errors."""

    def __init__(self, lib: Any, *, verbose: bool) -> None:
        self.errors: deque[str] = deque(maxlen=3)
        self._verbose = verbose
        self._level = 0
        self._callback = lib.llama_log_callback(self._take)  # kept: ctypes does not hold it
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _data: object) -> None:
        self._level = self._level if level == LEVEL_CONTINUES else level
        if self._level == LEVEL_ERROR:
            self.errors.append(text.decode("utf-8", "replace").strip())
        if self._verbose or self._level == LEVEL_ERROR:
            with contextlib.suppress(OSError):
                os.write(2, text)


class Engine:
    """One model and, unless `vocab_only`, one context; tokenises and embeds."""

    def __init__(self, lib: Any, config: dict[str, Any]) -> None:
        self.lib = lib
        self.config = config
        self.log = Log(lib, verbose=bool(config.get("verbose")))
        lib.llama_backend_init()
        self.extra_buffers = self._choose_extra_buffers()
        self.model = self._load()
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.architecture = self.meta("general.architecture") or "unknown"
        self.is_decoder = self._declares_decoder()
        self.pooling = self._choose_pooling()
        self._size()
        self.context: Any = None
        self.memory: Any = None
        if not config.get("vocab_only"):
            self._open_context()

    def _choose_extra_buffers(self) -> bool:
        """Whether weights are repacked for the CPU; unless asked for, not in builds with AMX.

        Some compilers (GCC 12 among them) drop the stores that prepare AMX's tile configuration, and
        the first multiplication of quantised weights then ends in a segmentation fault.
        """
        asked = self.config.get("use_extra_bufts")
        has_amx = b"AMX" in self.lib.llama_print_system_info()
        return not has_amx if asked is None else bool(asked)

    def _load(self) -> Any:
        params = self.lib.llama_model_default_params()
        fields = {name for name, *_ in params._fields_}
        use_mmap = bool(self.config.get("use_mmap", True))
        params.n_gpu_layers = int(self.config.get("n_gpu_layers", 0))
        params.vocab_only = bool(self.config.get("vocab_only"))
        if "use_extra_bufts" in fields:
            params.use_extra_bufts = self.extra_buffers
        if "use_mmap" in fields:
            params.use_mmap = use_mmap
        elif "load_mode" in fields:  # replaces use_mmap in later versions: 0 reads, 1 maps
            params.load_mode = int(use_mmap)
        model = self.lib.llama_model_load_from_file(os.fsencode(self.config["model"]), params)
        if not model:
            raise Refusal("model", " / ".join(self.log.errors) or "llama.cpp gave no reason")
        return model

    def meta(self, key: str) -> str | None:
        """A scalar of the GGUF's metadata as text; None where it is absent."""
        buffer = ctypes.create_string_buffer(4096)
        found = self.lib.llama_model_meta_val_str
        # Declared as c_char_p by every version, which takes an array of bytes to write into.
        length = found(self.model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    def _declares_decoder(self) -> bool:
        causal = self.meta(f"{self.architecture}.attention.causal")
        return causal != "false" and "bert" not in self.architecture

    def _choose_pooling(self) -> str:
        wanted = str(self.config.get("pooling", "auto"))
        declared = self.meta(f"{self.architecture}.pooling_type")
        if wanted == "auto" and declared is not None:
            wanted = POOLINGS.get(int(declared), declared)
        elif wanted == "auto":
            wanted = "last" if self.is_decoder else "mean"
        if wanted not in USABLE_POOLINGS and not self.config.get("vocab_only"):
            raise Refusal("pooling", f"pooling {wanted!r} gives no vector for a text", pooling=wanted)
        return wanted

    def _size(self) -> None:
        lib, config = self.lib, self.config
        if config.get("vocab_only"):  # the hyperparameters are not loaded then
            trained = int(self.meta(f"{self.architecture}.context_length") or 0)
            self.dimensions = int(self.meta(f"{self.architecture}.embedding_length") or 0)
        else:
            trained = lib.llama_model_n_ctx_train(self.model)
            output = getattr(lib, "llama_model_n_embd_out", lib.llama_model_n_embd)
            self.dimensions = output(self.model) or lib.llama_model_n_embd(self.model)
        asked = int(config.get("n_ctx", 0))
        self.n_ctx_train = trained
        self.n_ctx = asked if 0 < asked <= trained else trained
        n_batch = int(config.get("n_batch", 0)) or self.n_ctx
        self.max_tokens = min(self.n_ctx, n_batch)
        self.tokens_per_batch = min(max(1, int(config.get("tokens_per_batch", 256))), n_batch)

    def _open_context(self) -> None:
        lib, config = self.lib, self.config
        if lib.llama_model_has_encoder(self.model) and lib.llama_model_has_decoder(self.model):
            raise Refusal("model", "encoder-decoder models have no embedding of a text")
        params = lib.llama_context_default_params()
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
        params.type_k = params.type_v = 1 if config.get("f16_kv", True) else 0
        params.offload_kqv = not config.get("low_vram", False)
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise Refusal("model", " / ".join(self.log.errors) or "llama.cpp could not make a context")
        self.memory = lib.llama_get_memory(self.context)
        self.is_decoder = bool(self.memory) and not lib.llama_model_has_encoder(self.model)
        self.pooling = POOLINGS.get(lib.llama_pooling_type(self.context), "unspecified")
        self.n_seq_max = params.n_seq_max
        self.batch = lib.llama_batch_init(capacity, 0, 1)
        self.columns = self._columns(capacity)

    def _columns(self, capacity: int) -> dict[str, Any]:
        """The batch's columns as arrays of `capacity` tokens, filled a text at a time instead of a token."""
        import numpy as np

        batch, view = self.batch, np.ctypeslib.as_array
        # llama.cpp keeps each token's sequences behind a pointer of its own: here into one array.
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

    def facts(self) -> dict[str, Any]:
        """ModelFacts, without the hash."""
        description = ctypes.create_string_buffer(256)
        self.lib.llama_model_desc(self.model, description, len(description))
        return {
            "path": self.config["model"],
            "file_bytes": Path(self.config["model"]).stat().st_size,
            "architecture": self.architecture,
            "name": self.meta("general.name") or "",
            "description": description.value.decode("utf-8", "replace"),
            "dimensions": self.dimensions,
            "n_ctx_train": self.n_ctx_train,
            "n_vocab": self.lib.llama_vocab_n_tokens(self.vocab),
            "n_params": self.lib.llama_model_n_params(self.model),
            "pooling": self.pooling,
            "is_decoder": self.is_decoder,
            "max_tokens": self.max_tokens,
            "requested": self._requested(),
            "effective": self._effective(),
        }

    def _requested(self) -> dict[str, Any]:
        shown = {k: v for k, v in self.config.items() if k not in ("model", "verbose")}
        return {k: "auto" if v is None else v for k, v in shown.items()}

    def _effective(self) -> dict[str, Any]:
        config = self.config
        values = {
            "pooling": self.pooling,
            "n_ctx": self.n_ctx,
            "tokens_per_batch": self.tokens_per_batch,
            "f16_kv": bool(config.get("f16_kv", True)),
            "low_vram": bool(config.get("low_vram", False)),
            "use_mmap": bool(config.get("use_mmap", True)),
            "use_extra_bufts": self.extra_buffers,
            "n_gpu_layers": int(config.get("n_gpu_layers", 0)),
            "vocab_only": bool(config.get("vocab_only")),
        }
        if self.context:
            for name in ("n_batch", "n_ubatch", "n_seq_max", "n_threads"):
                values[name] = int(getattr(self.lib, f"llama_{name}")(self.context))
        return values

    def tokenise(self, text: str) -> Any:
        """The text's tokens with separators; markup of special tokens in it is plain text."""
        raw = text.encode("utf-8", "replace")  # a lone surrogate must not reach C++
        room = len(raw) + 8
        for _ in range(2):
            tokens = (ctypes.c_int32 * room)()
            count = self.lib.llama_tokenize(self.vocab, raw, len(raw), tokens, room, True, False)
            if count >= 0:
                return tokens[:count]
            room = -count
        raise Refusal("tokens", "llama.cpp could not tokenise a text")

    def embed(self, texts: list[str]) -> tuple[list[int], bytes]:
        """Token counts, and the raw pooled vectors (n x d, float32) in the order of the texts."""
        tokens = [self.tokenise(text) for text in texts]
        return [len(ids) for ids in tokens], self.embed_tokens(tokens)

    def embed_tokens(self, tokens: list[Any]) -> bytes:
        """The raw pooled vectors (n x d, float32) of texts that are token ids already, separators included."""
        import numpy as np

        if not self.context:
            raise Refusal("vocab_only", "this embedder was started to count tokens only")
        counts = [len(ids) for ids in tokens]
        self._check(counts)
        vectors = np.empty((len(tokens), self.dimensions), dtype="<f4")
        for group in self._groups(counts):
            self._run([tokens[index] for index in group])
            for sequence, index in enumerate(group):
                pooled = self.lib.llama_get_embeddings_seq(self.context, sequence)
                if not pooled:
                    raise Refusal("compute", "llama.cpp returned no embedding", index=index)
                vectors[index] = np.ctypeslib.as_array(pooled, shape=(self.dimensions,))
        return vectors.tobytes()

    def _check(self, counts: list[int]) -> None:
        """Nothing is ever cut: a text that does not fit is refused."""
        for index, found in enumerate(counts):
            if found > self.max_tokens:
                message = f"text {index} has {found} tokens, {self.max_tokens} are allowed"
                raise Refusal("too_long", message, index=index, found=found, allowed=self.max_tokens)
            if found == 0:
                raise Refusal("empty", f"text {index} has no tokens", index=index)

    def _groups(self, counts: list[int]) -> list[list[int]]:
        """Indexes of texts of like length, batch by batch."""
        groups: list[list[int]] = []
        room = 0
        for index in sorted(range(len(counts)), key=counts.__getitem__):
            if not groups or counts[index] > room or len(groups[-1]) >= self.n_seq_max:
                groups.append([])
                room = max(self.tokens_per_batch, counts[index])
            groups[-1].append(index)
            room -= counts[index]
        return groups

    def _run(self, sequences: list[Any]) -> None:
        batch, at = self.batch, 0
        for sequence, ids in enumerate(sequences):
            until = at + len(ids)
            self.columns["token"][at:until] = ids
            self.columns["pos"][at:until] = self.columns["positions"][: len(ids)]
            self.columns["sequence"][at:until] = sequence
            at = until
        batch.n_tokens = at
        self.log.errors.clear()
        if self.memory:
            self.lib.llama_memory_clear(self.memory, True)
        process = self.lib.llama_decode if self.is_decoder else self.lib.llama_encode
        status = process(self.context, batch)
        if status != 0:
            raise Refusal("compute", f"llama.cpp returned {status}: {' / '.join(self.log.errors)}")
