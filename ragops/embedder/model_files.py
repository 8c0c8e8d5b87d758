"""The files of a model: check that all shards are there, and name their SHA-256."""

from __future__ import annotations

import struct
from pathlib import Path

from ragops.builds.standalone import sha256_of
from ragops.embedder.child_files import MAGIC, combined_sha256, shard_number, shards_of
from ragops.errors import ModelUnusable

_NAMED = 5


def check_model_file(path: Path) -> None:
    """Raise ModelUnusable if a file of the model is missing, unreadable or no GGUF, or if it is no first shard."""
    tensors = _read_start(path)
    shards = shards_of(path)
    if shards[0] != path:
        raise ModelUnusable(
            "this file is one part of a model, and not the first",
            where=str(path),
            actual=f"shard {shard_number(path)} of {len(shards)}",
            expected="the first shard: the others are found beside it",
            hint=f"RAGOPS_MODEL={shards[0]}   or model.file: {shards[0]}",
        )
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        names = ", ".join(shard.name for shard in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise ModelUnusable(
            "shards of the model are missing",
            where=str(path.parent),
            actual=f"{len(missing)} of {len(shards)} are not there: {names}{more}",
            expected=f"all {len(shards)} shards in one folder, under the names that they were made with",
            hint="download the missing files into that folder",
        )
    for shard in shards[1:]:
        _read_start(shard)
    if tensors == 0 and len(shards) == 1:
        raise ModelUnusable(
            "the GGUF file holds a vocabulary and no weights",
            where=str(path),
            actual="0 tensors",
            expected="a GGUF file of an embedding model",
            hint="files named ggml-vocab-… are for tests of tokenizers: download the model itself",
        )


def model_sha256(path: Path) -> str:
    """Return the SHA-256 of a model, all shards included. Raises OSError if one cannot be read."""
    return combined_sha256([sha256_of(shard) for shard in shards_of(path)])


def _read_start(path: Path) -> int:
    """Return the number of tensors in a GGUF file. Raises ModelUnusable if it cannot be read or is none."""
    try:
        if path.is_dir():
            raise _is_folder(path)
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise ModelUnusable(
            "the model file does not exist",
            where=str(path),
            expected="a GGUF file of an embedding model",
            hint="set RAGOPS_MODEL or model.file; relative paths start in the current folder",
        ) from None
    except OSError as error:
        raise ModelUnusable(
            "cannot read the model file", where=str(path), actual=error.strerror or str(error)
        ) from error
    if start[:4] != MAGIC:
        raise ModelUnusable(
            "the model file is not a GGUF file",
            where=str(path),
            actual=f"a file that starts with {start[:4]!r}" if start else "an empty file",
            expected=f"a file that starts with {MAGIC!r}",
            hint="an interrupted download, or a web page saved in its place, looks like this",
        )
    # A file that ends here is damaged, which llama.cpp says in its own words.
    return int(struct.unpack("<Q", start[8:])[0]) if len(start) == 16 else 1


def _is_folder(path: Path) -> ModelUnusable:
    found = sorted(file.name for file in path.glob("*.gguf"))
    return ModelUnusable(
        "the model is a folder, not a file",
        where=str(path),
        actual=f"a folder with {', '.join(found[:_NAMED])}" if found else "a folder without a .gguf file",
        expected="the path of a GGUF file",
        hint=f"RAGOPS_MODEL={path / found[0]}" if found else "set RAGOPS_MODEL or model.file to a GGUF file",
    )
