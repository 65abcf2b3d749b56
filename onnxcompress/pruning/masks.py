"""Which weights stay: masks (bool, True = keep) from importances [groups, outputs, features]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxcompress.pruning.criteria import LEAST


@dataclass(frozen=True)
class Pattern:
    """At most `kept` weights that are not zero among each `size` neighbours: 2:4, say."""

    kept: int
    size: int

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Reads "2:4".

        Raises:
            ValueError: it is not of that form, or keeps none or all.
        """
        parts = text.split(":")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ValueError(f"{text!r} is not of the form 2:4")
        kept, size = map(int, parts)
        if not 0 < kept < size:
            raise ValueError(f"{text!r} must keep at least 1 of the weights, and not all")
        return cls(kept, size)


def keep_most(importances: Sequence[np.ndarray], sparsity: float) -> list[np.ndarray]:
    """Masks under one threshold for all arrays together: magnitudes are compared as they are.

    Args:
        importances: float32 arrays without NaN, of any shapes.
        sparsity: share of all elements that goes; to the nearest whole number. Among equals the
            earliest go.

    Returns:
        bool, one mask for each array.
    """
    total = sum(each.size for each in importances)
    gone = round(sparsity * total)
    if gone == 0:
        return [np.ones(each.shape, np.bool_) for each in importances]
    if gone == total:
        return [np.zeros(each.shape, np.bool_) for each in importances]
    ranked = np.concatenate([each.reshape(-1) for each in importances])
    ranked.partition(gone - 1)
    limit = ranked[gone - 1]
    equals = gone - int(np.count_nonzero(ranked[:gone] < limit))
    masks = []
    for each in importances:
        flat = each.reshape(-1)
        mask = flat > limit
        at_limit = np.flatnonzero(flat == limit)
        mask[at_limit[equals:]] = True
        equals = max(equals - len(at_limit), 0)
        masks.append(mask.reshape(each.shape))
    return masks


def layer_adaptive(importances: np.ndarray) -> np.ndarray:
    """Importances made comparable between tensors: each as a share of those that are no smaller.

    Below one threshold over all tensors, the most important weight of each goes last of all: none
    is emptied because its weights are small throughout.
    Source: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021 (arXiv
    2010.07611), which does so with squared magnitudes.

    Args:
        importances: float32, not negative, any shape.

    Returns:
        float32 from 0 to 1, of the same shape and order; zero where they are.
    """
    flat = importances.reshape(-1)
    order = np.argsort(flat, kind="stable")
    risen = flat[order].astype(np.float64)
    no_smaller = np.cumsum(risen[::-1])[::-1]
    shares = np.empty_like(flat)
    shares[order] = np.maximum(risen / np.maximum(no_smaller, LEAST), LEAST) * (risen > 0)
    return shares.reshape(importances.shape)


def keep_most_of_rows(importances: np.ndarray, sparsity: float) -> np.ndarray:
    """The mask that takes the same number of elements from each row along the last axis."""
    gone = round(sparsity * importances.shape[-1])
    order = np.argsort(importances, axis=-1, kind="stable")
    mask = np.ones(importances.shape, np.bool_)
    np.put_along_axis(mask, order[..., :gone], False, axis=-1)
    return mask


def keep_pattern(importances: np.ndarray, pattern: Pattern, kernel: int = 1) -> np.ndarray:
    """The mask with the `pattern.kept` most important of each `pattern.size` input channels.

    Args:
        importances: float [groups, outputs, features].
        pattern: its size divides the input channels.
        kernel: features of an input channel, which lie together: those of a convolution. The
            channels are compared for each place in the kernel on its own.
    """
    groups, outputs, features = importances.shape
    ranked = importances.reshape(groups, outputs, -1, pattern.size, kernel).swapaxes(3, 4)
    mask = keep_most_of_rows(ranked, 1 - pattern.kept / pattern.size)
    return mask.swapaxes(3, 4).reshape(groups, outputs, features)


def block_importances(importances: np.ndarray, block: int) -> np.ndarray:
    """The mean importance of each `block` neighbours along the last axis; the last may be fewer."""
    if block == 1:
        return importances
    features = importances.shape[-1]
    starts = np.arange(0, features, block)
    lengths = np.minimum(starts + block, features) - starts
    means: np.ndarray = np.add.reduceat(importances, starts, axis=-1) / lengths.astype(np.float32)
    return means


def spread_blocks(mask: np.ndarray, block: int, features: int) -> np.ndarray:
    """The mask of single weights from one of blocks, see `block_importances`."""
    spread: np.ndarray = np.repeat(mask, block, axis=-1)[..., :features]
    return spread
