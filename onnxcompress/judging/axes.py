"""Which axis of an output measures different things, and along which classes compete."""

from __future__ import annotations

from typing import Final

import numpy as np

from onnxcompress.data.casting import Kind
from onnxcompress.judging.facts import OutputFacts
from onnxcompress.judging.words import CLASS_WORDS, words_of

_CLASSES_AT_A_PLACE: Final = 256
"""Maps of more channels than this hold features, not classes."""


_FEWEST_PLACES: Final = 64
"""Tables of fewer whole numbers are no pictures."""


def class_axis_of_map(facts: OutputFacts) -> int | None:
    """The axis of a map's sample that holds classes at each place; None for plain values.

    Probabilities that sum to 1 along an axis are classes. So are scores of which one stands out
    from place to place, where the name speaks of classes or segments.
    """
    shape = facts.shape
    if len(shape) < 3 or facts.varies_in_shape:
        return None
    for axis in (0, len(shape) - 1):
        if not 2 <= shape[axis] <= _CLASSES_AT_A_PLACE:
            continue
        if facts.sums_to_one(axis) or facts.logs_sum_to_one(axis):
            return axis
    words = words_of(facts.name)
    named = words & (CLASS_WORDS | {"seg", "segmentation", "semantic", "mask", "masks"})
    channels = feature_axis(facts)
    if named and channels is not None and 2 <= shape[channels] <= _CLASSES_AT_A_PLACE:
        return None if facts.are_fractions else channels
    return None


def is_class_map(facts: OutputFacts) -> bool:
    """Whether whole numbers are the classes at each place of a picture: few, and small."""
    if facts.dtype_kind is not Kind.INTEGER or facts.varies_in_shape:
        return False
    if sum(n != 1 for n in facts.shape) != 2 or np.prod(facts.shape) < _FEWEST_PLACES:
        return False
    classes = np.unique(facts.looked)
    return bool(classes[0] >= 0) and bool(classes[-1] < _CLASSES_AT_A_PLACE)


def feature_axis(facts: OutputFacts) -> int | None:
    """The axis of a sample whose places measure different things; None if there is none.

    ONNX puts channels first in pictures. They are last where the first axis is as long as the
    second and the last is short, and in tables of two axes, where the shorter fixed one holds them.
    """
    shape = facts.shape
    if not shape or all(length == 1 for length in shape):
        return None
    fixed = _fixed_axes(facts)
    if len(shape) == 1:
        return 0 if 0 in fixed else None
    if len(shape) == 2:
        candidates = [axis for axis in fixed if shape[axis] > 1]
        return min(candidates, key=lambda axis: (shape[axis], -axis), default=None)
    is_last = shape[0] == shape[1] or (shape[-1] <= 4 < shape[0])
    axis = len(shape) - 1 if is_last else 0
    return axis if axis in fixed else None


def _fixed_axes(facts: OutputFacts) -> list[int]:
    """Axes of a sample that are as long for every sample, by what is declared or was seen."""
    arrays = facts.looked if isinstance(facts.looked, list) else [facts.looked[0]]
    axes = facts.declared[1:] if facts.batch_first else facts.declared
    declared = axes if len(axes) == len(facts.shape) else (None,) * len(facts.shape)
    return [
        axis
        for axis in range(len(facts.shape))
        if not isinstance(declared[axis], str)
        and len({each.shape[axis] for each in arrays if each.ndim > axis}) == 1
    ]
