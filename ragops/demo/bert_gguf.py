"""Write a BERT checkpoint (safetensors and WordPiece vocabulary) as a GGUF file for llama.cpp.

Requires the package `gguf` from the extra `embedded`, imported when it is used.
Source of the keys and names: llama.cpp's `convert_hf_to_gguf.py` (BertModel) and the GGUF specification.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# enum llama_pooling_type in llama.h
POOLING_TYPES = {"none": 0, "mean": 1, "cls": 2, "last": 3}
# SentencePiece's mark, with which llama.cpp's WordPiece tokenizer marks the start of a word too.
WORD_START = "\u2581"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TOKEN_NORMAL, _TOKEN_CONTROL = 1, 3  # enum llama_token_type
_FILE_TYPES = {"F32": 0, "Q8_0": 7}  # enum llama_ftype
_SAFETENSORS_TYPES = {"F32": "<f4", "F16": "<f2"}
_OUTER_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER_NAMES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
# These are added to the embeddings, not multiplied, and are small: quantising them would only lose precision.
_KEPT_WHOLE = frozenset({"position_embd.weight", "token_types.weight"})


@dataclass(frozen=True, slots=True)
class BertShape:
    """Hyperparameters of a BERT; lengths in tokens, sizes in floats."""

    name: str
    layers: int
    heads: int
    dimensions: int
    feed_forward: int
    n_ctx: int
    norm_epsilon: float
    token_types: int = 2
    licence: str | None = None


def shape_from_config(name: str, config: Mapping[str, Any], *, licence: str | None = None) -> BertShape:
    """Return the hyperparameters in a checkpoint's config.json. Raises KeyError for a missing one."""
    return BertShape(
        name=name,
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        dimensions=int(config["hidden_size"]),
        feed_forward=int(config["intermediate_size"]),
        n_ctx=int(config["max_position_embeddings"]),
        norm_epsilon=float(config["layer_norm_eps"]),
        token_types=int(config["type_vocab_size"]),
        licence=licence,
    )


def read_safetensors(data: bytes) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield name and values of each float tensor; skip integer tensors (position ids).

    Raises ValueError if the bytes are not a safetensors file.
    """
    # The format: 8 bytes with the header's length, the header as JSON, the tensors' bytes.
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length or not data[8 : 8 + length].lstrip().startswith(b"{"):
        raise ValueError("not a safetensors file: no header")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    for name, entry in header.items():
        dtype = _SAFETENSORS_TYPES.get(entry.get("dtype", ""))
        if dtype is None:
            continue
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[start:end], dtype=dtype)
        yield name, values.reshape(entry["shape"]).astype(np.float32)


def gguf_name(name: str) -> str | None:
    """Return llama.cpp's name of a tensor; None for one that embeddings do not need (the pooler)."""
    stem, _, part = name.removeprefix("bert.").rpartition(".")
    if stem in _OUTER_NAMES:
        return f"{_OUTER_NAMES[stem]}.{part}"
    layer = _LAYER.fullmatch(stem)
    if layer and layer[2] in _LAYER_NAMES:
        return f"blk.{layer[1]}.{_LAYER_NAMES[layer[2]]}.{part}"
    return None


def write_bert_gguf(
    path: Path,
    *,
    shape: BertShape,
    vocabulary: Sequence[str],
    tensors: Mapping[str, NDArray[np.float32]],
    pooling: str,
    quantise: bool = True,
) -> None:
    """Write the model; `tensors` by their GGUF names, `vocabulary` as in vocab.txt.

    With `quantise`, matrices are Q8_0; norms, biases, positions and token types stay F32. Only tests
    write models without it.
    Raises ImportError without the package `gguf`, KeyError for an unknown pooling.
    """
    import gguf

    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(shape.name)
    if shape.licence:
        writer.add_license(shape.licence)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.dimensions)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(shape.norm_epsilon)
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", POOLING_TYPES[pooling])
    writer.add_token_type_count(shape.token_types)
    writer.add_quantization_version(2)
    writer.add_file_type(_FILE_TYPES["Q8_0" if quantise else "F32"])
    _add_vocabulary(writer, vocabulary)
    for name, values in tensors.items():
        # A block of Q8_0 has 32 values of one row.
        is_matrix = values.ndim == 2 and name not in _KEPT_WHOLE and values.shape[-1] % 32 == 0
        if quantise and is_matrix:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any, vocabulary: Sequence[str]) -> None:
    """Add the tokens, in llama.cpp's spelling, and the ids of the special ones."""
    tokens = []
    for token in vocabulary:
        # The reverse of vocab.txt: there continuations carry a mark (`##ing`), here word starts do.
        is_unmarked = token in SPECIAL_TOKENS or token.startswith("##")
        tokens.append(token.removeprefix("##") if is_unmarked else WORD_START + token)
    ids = {token: index for index, token in enumerate(vocabulary)}
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")  # the name upstream gives BERT's lower-casing splitter
    writer.add_token_list(tokens)
    writer.add_token_types([_TOKEN_CONTROL if token in SPECIAL_TOKENS else _TOKEN_NORMAL for token in vocabulary])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_mask_token_id(ids["[MASK]"])
    writer.add_uint32("tokenizer.ggml.cls_token_id", ids["[CLS]"])
