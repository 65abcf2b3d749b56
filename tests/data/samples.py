from collections.abc import Mapping

import numpy as np

from onnxcompress.runtime.session import TensorSignature


def tensor(name: str, dtype: object, *shape: int | str | None) -> TensorSignature:
    return TensorSignature(name=name, dtype=np.dtype(dtype), shape=shape)  # type: ignore[call-overload]


X_ONLY = (tensor("x", np.float32, "N", 3),)


def rows(count: int, start: int = 0) -> np.ndarray:
    """Sample i is [3i, 3i+1, 3i+2]."""
    return np.arange(3 * start, 3 * (start + count), dtype=np.float32).reshape(count, 3)


def samples_of(feeds: Mapping[str, np.ndarray]) -> list[int]:
    return [int(value) // 3 for value in feeds["x"][:, 0]]
