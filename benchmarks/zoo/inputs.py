"""What models read, and samples of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Input:
    """An input of `forward`.

    Attributes:
        name: of the argument.
        shape: lengths; a name stands for an axis that the export leaves open.
        tokens: integers below this number; 0 for normal float32 values.
        mask: whether it holds 1 for what counts, then 0 for padding.
        rising: whether values rise along the last axis, as the corners of boxes do.
    """

    name: str
    shape: tuple[int | str, ...]
    tokens: int = 0
    mask: bool = False
    rising: bool = False

    @property
    def open_axes(self) -> dict[int, str]:
        """The axes without a fixed length, and what they are called."""
        return {axis: size for axis, size in enumerate(self.shape) if isinstance(size, str)}

    def sample(self, sizes: Mapping[str, int], rng: np.random.Generator) -> Array:
        """Random values, with these lengths for the open axes."""
        shape = [sizes[size] if isinstance(size, str) else size for size in self.shape]
        if self.mask:
            lengths = rng.integers(shape[1] // 2, shape[1] + 1, shape[0])
            return (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
        if self.tokens:
            tokens = rng.integers(0, self.tokens, shape)
            return np.sort(tokens) if self.rising else tokens
        return rng.standard_normal(shape).astype(np.float32)
