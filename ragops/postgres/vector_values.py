"""Vectors as they go to the server and come back, whichever version of pgvector's package is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from pgvector import Vector as Vector
except ImportError:  # pgvector 0.3, which langchain-postgres 0.0.19 needs
    from pgvector.utils import Vector as Vector  # type: ignore[import-not-found,no-redef]


def array_of(value: Any) -> NDArray[np.float32]:
    """Return a vector that was read from the server: 0.3 loads arrays of `vector`, later versions objects."""
    return np.asarray(value if isinstance(value, np.ndarray) else value.to_numpy(), dtype=np.float32)
