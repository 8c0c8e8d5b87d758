"""Tiny models that a real llama.cpp loads in milliseconds: random weights, made from a seed."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragops.demo.bert_gguf import POOLING_TYPES, BertShape, write_bert_gguf

WORDS = """the a an of and to in is it that for on was with as be by at from or this are not water fire
city council road house school roof budget permit build index vector table row drop load query search
document text page queue worker model embed reset verify boil degree cold warm dog cat fox jump quick
brown lazy over red green blue tree river mountain one two three four five"""

Matrix = NDArray[np.float32]


def bert_vocabulary() -> list[str]:
    """A WordPiece vocabulary: every printable ASCII text without upper case is spelt by it."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *(f"##{letter}" for letter in letters), *string.punctuation]
    endings = [f"##{ending}" for ending in ("s", "ed", "ing", "er", "ly", "tion")][1:]
    return [*special, *pieces, *endings, *(word for word in dict.fromkeys(WORDS.split()) if word not in pieces)]


def write_tiny_bert(
    path: Path,
    *,
    dimensions: int = 32,
    layers: int = 1,
    n_ctx: int = 128,
    pooling: str = "mean",
    seed: int = 0,
    quantise: bool = False,
    broken_words: Sequence[str] = (),
) -> Path:
    """A BERT of `dimensions` (a multiple of 4) floats; texts with `broken_words` have NaN. Returns `path`."""
    rng = np.random.default_rng(seed)
    vocabulary = bert_vocabulary()
    wide = 2 * dimensions
    tensors = {
        "token_embd.weight": _normal(rng, len(vocabulary), dimensions),
        "position_embd.weight": _normal(rng, n_ctx, dimensions, scale=0.1),
        "token_types.weight": _normal(rng, 2, dimensions, scale=0.1),
        **_norm("token_embd_norm", dimensions),
    }
    for word in broken_words:
        tensors["token_embd.weight"][vocabulary.index(word)] = np.nan
    for layer in range(layers):
        block = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v"):
            tensors |= _linear(rng, f"{block}.{part}", dimensions, dimensions)
        tensors |= _linear(rng, f"{block}.ffn_up", wide, dimensions)
        # Damped, so that a text's vector is mostly its words: texts that share words are near.
        tensors |= _linear(rng, f"{block}.attn_output", dimensions, dimensions, gain=0.8)
        tensors |= _linear(rng, f"{block}.ffn_down", dimensions, wide, gain=0.5)
        tensors |= _norm(f"{block}.attn_output_norm", dimensions)
        tensors |= _norm(f"{block}.layer_output_norm", dimensions)
    shape = BertShape(
        name=f"tiny-bert-{seed}",
        layers=layers,
        heads=4,
        dimensions=dimensions,
        feed_forward=wide,
        n_ctx=n_ctx,
        norm_epsilon=1e-12,
    )
    write_bert_gguf(path, shape=shape, vocabulary=vocabulary, tensors=tensors, pooling=pooling, quantise=quantise)
    return path


def write_tiny_decoder(
    path: Path,
    *,
    dimensions: int = 32,
    layers: int = 1,
    n_ctx: int = 128,
    seed: int = 0,
    bos: bool = True,
    pooling: str | None = None,
    eos: str = "</s>",
    add_eos: bool | None = False,
    shards_of: int = 0,
) -> Path:
    """A causal llama-like decoder with a SentencePiece vocabulary; None: the file says nothing of it.

    Without `bos` an empty text has no token. `shards_of` tensors each: several files, of which the first one's
    path is returned.
    """
    import gguf

    rng = np.random.default_rng(seed)
    tokens, types = _decoder_vocabulary()
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=shards_of)
    writer.add_name(f"tiny-decoder-{seed}")
    writer.add_block_count(layers)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(dimensions)
    writer.add_feed_forward_length(2 * dimensions)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(dimensions // 4)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    if pooling is not None:
        writer.add_uint32("llama.pooling_type", POOLING_TYPES[pooling])
    tokens[2] = eos
    _add_decoder_vocabulary(writer, tokens, types, bos=bos)
    if add_eos is not None:
        writer.add_add_eos_token(add_eos)
    for name, values in _decoder_tensors(rng, len(tokens), dimensions, layers).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if not shards_of else min(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))


def _decoder_tensors(rng: np.random.Generator, words: int, width: int, layers: int) -> dict[str, Matrix]:
    tensors = {
        "token_embd.weight": _normal(rng, words, width),
        "output_norm.weight": np.ones(width, dtype=np.float32),
        "output.weight": _normal(rng, words, width),
    }
    for layer in range(layers):
        block = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}.{part}.weight"] = _normal(rng, width, width, scale=width**-0.5)
        for part in ("ffn_gate", "ffn_up"):
            tensors[f"{block}.{part}.weight"] = _normal(rng, 2 * width, width, scale=width**-0.5)
        tensors[f"{block}.ffn_down.weight"] = _normal(rng, width, 2 * width, scale=width**-0.5)
        for part in ("attn_norm", "ffn_norm"):
            tensors[f"{block}.{part}.weight"] = np.ones(width, dtype=np.float32)
    return tensors


def _decoder_vocabulary() -> tuple[list[str], list[int]]:
    normal, unknown, control, byte = 1, 2, 3, 6
    special = [("<unk>", unknown), ("<s>", control), ("</s>", control)]
    raw = [(f"<0x{value:02X}>", byte) for value in range(256)]
    pieces = [("\u2581", normal), *((letter, normal) for letter in string.printable[:94])]
    everything = [*special, *raw, *pieces]
    return [token for token, _ in everything], [kind for _, kind in everything]


def _add_decoder_vocabulary(writer: Any, tokens: list[str], types: list[int], *, bos: bool) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(bos)


def _normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Matrix:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def _linear(
    rng: np.random.Generator, name: str, rows: int, columns: int, *, gain: float = 1.0
) -> dict[str, Matrix]:
    return {
        f"{name}.weight": _normal(rng, rows, columns, scale=gain * columns**-0.5),
        f"{name}.bias": _normal(rng, rows, scale=0.01),
    }


def _norm(name: str, width: int) -> dict[str, Matrix]:
    return {
        f"{name}.weight": np.ones(width, dtype=np.float32),
        f"{name}.bias": np.zeros(width, dtype=np.float32),
    }
