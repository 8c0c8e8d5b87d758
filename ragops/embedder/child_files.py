"""The child's model files: the shards of a model, their SHA-256, and what all quantisations of it have in common.

Part of the program `child.py` and of the single file that `ragops fingerprint script` prints; like them it
uses the standard library only and keeps to Python 3.9. The parent imports it, too.
"""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
MAGIC = b"GGUF"
# As gguf-split names them; llama.cpp looks for the others by these names and begins with the first.
SHARD = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
# struct formats of the metadata's value types, by number; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_F32 = 0
# No model has more; damaged counts are told from true ones by it.
_MOST_ENTRIES = 1_000_000
# Tables that follow from the architecture, the same for every model of it.
_COMPUTED = ("rope_freqs", "rope_factors")


class Header:
    """Metadata (scalars and strings) and tensors of one GGUF file."""

    def __init__(self, file: BinaryIO) -> None:
        """Read it from the file's start. Raises ValueError if it is damaged or of an unknown version."""
        self._file = file
        if file.read(4) != MAGIC:
            raise ValueError("not a GGUF file")
        if self._number("I") not in (2, 3):
            raise ValueError("an unknown version of GGUF")
        tensors, entries = self._number("Q"), self._number("Q")
        if max(tensors, entries) > _MOST_ENTRIES:
            raise ValueError("a damaged GGUF file")
        self.metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self._text()
            self.metadata[key] = self._value(self._number("I"))
        self.tensors = [self._tensor() for _ in range(tensors)]
        alignment = int(self.metadata.get("general.alignment") or 32)
        self.data_at = -(-file.tell() // alignment) * alignment

    def _number(self, kind: str) -> Any:
        data = self._file.read(struct.calcsize(f"<{kind}"))
        try:
            return struct.unpack(f"<{kind}", data)[0]
        except struct.error:
            raise ValueError("a damaged GGUF file: it ends in its header") from None

    def _text(self) -> str:
        length = self._number("Q")
        data = self._file.read(min(length, 1 << 30))
        if len(data) < length:
            raise ValueError("a damaged GGUF file: it ends in its header")
        return data.decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        """Return a scalar or a string; read past an array and return None."""
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            if kind not in _SCALARS:
                raise ValueError("a damaged GGUF file: an unknown type of value")
            return self._number(_SCALARS[kind])
        inner, count = self._number("I"), self._number("Q")
        if inner in _SCALARS:
            self._file.seek(count * struct.calcsize(f"<{_SCALARS[inner]}"), 1)
        else:
            for _ in range(count):
                self._value(inner)
        return None

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Return name, shape, type and place in the data."""
        name, rank = self._text(), self._number("I")
        if rank > 8:
            raise ValueError("a damaged GGUF file: a tensor of too many dimensions")
        shape = tuple(self._number("Q") for _ in range(rank))
        return name, shape, self._number("I"), self._number("Q")


def read_header(path: Path) -> Header:
    """Return the header of a GGUF file. Raises ValueError if it is damaged, OSError if it cannot be read."""
    with path.open("rb") as file:
        try:
            return Header(file)
        except (OverflowError, MemoryError, RecursionError):
            raise ValueError("a damaged GGUF file: impossible sizes") from None


def shards_of(path: Path) -> list[Path]:
    """Return all files of the model that `path` is a shard of, in order, there or not; else the file alone."""
    match = SHARD.fullmatch(path.name)
    if match is None or int(match["count"]) < 2:
        return [path]
    try:
        # A whole model may keep the name of a shard; llama.cpp goes by the header, too.
        if int(read_header(path).metadata.get("split.count") or 0) < 2:
            return [path]
    except (ValueError, OSError):
        pass  # what cannot be read is what its name says
    count = int(match["count"])
    names = (f"{match['prefix']}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1))
    return [path.with_name(name) for name in names]


def shard_number(path: Path) -> int:
    """Return the number of a shard as its name has it, from 1; 1 for other files."""
    match = SHARD.fullmatch(path.name)
    return int(match["number"]) if match else 1


def model_bytes(path: Path) -> int:
    """Return the size of the model, of all shards together. Raises OSError."""
    return sum(shard.stat().st_size for shard in shards_of(path))


def combined_sha256(digests: list[str]) -> str:
    """Return a model's SHA-256: its file's, or of several shards that of the lines with theirs.

    `sha256sum model-*.gguf | cut -c1-64 | sha256sum` prints the same.
    """
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode("ascii")).hexdigest()


def weights_id(path: Path) -> Any:
    """Return a SHA-256 of a model's norms and biases, which all its quantisations share; None without any.

    Quantising leaves tensors of one dimension in F32, bit for bit. Those of a single value, as untrained models
    have, say nothing, nor do tables that every model of the architecture has.
    """
    found = []
    for shard in shards_of(path):
        try:
            with shard.open("rb") as file:
                header = Header(file)
                for name, shape, kind, at in header.tensors:
                    if len(shape) != 1 or kind != _F32 or name.startswith(_COMPUTED) or shape[0] > _MOST_ENTRIES:
                        continue
                    file.seek(header.data_at + at)
                    data = file.read(4 * shape[0])
                    if data != data[:4] * shape[0]:
                        found.append((name, data))
        except (ValueError, OSError, OverflowError):
            return None
    if not found:
        return None
    digest = hashlib.sha256()
    for name, data in sorted(found):
        digest.update(name.encode("utf-8") + b"\0" + data)
    return digest.hexdigest()
