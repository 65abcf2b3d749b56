"""Which labels belong to which output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from onnxcompress.data.casting import Kind, kind_of
from onnxcompress.judging.axes import class_axis_of_map
from onnxcompress.judging.facts import OutputFacts
from onnxcompress.judging.kinds import OutputKind

Labels = Mapping[str, np.ndarray]
"""Labels by the output they belong to; those that name no output stand under `UNNAMED`."""


UNNAMED: Final = ""
"""No output bears this name."""


LABEL_TAKERS: Final = (
    OutputKind.CHOICE,
    OutputKind.SEQUENCE,
    OutputKind.MAP,
    OutputKind.INTEGERS,
    OutputKind.STRINGS,
    OutputKind.LABELS,
    OutputKind.NUMBER,
    OutputKind.NUMBERS,
)
"""Kinds in the order in which labels without a name are offered to them."""


def labels_fit(kind: OutputKind, facts: OutputFacts, labels: np.ndarray) -> bool:
    """Whether labels of all samples can be those of an output of this kind."""
    shape, wanted = facts.shape, labels.shape[1:]
    whole = kind_of(labels.dtype) in (Kind.INTEGER, Kind.BOOL)
    long = tuple(n for n in shape if n != 1)
    if kind in (OutputKind.CHOICE, OutputKind.SEQUENCE):
        spots = tuple(n for n in wanted if n != 1)
        same = facts.varies_in_shape or spots == long[:-1]
        return whole and bool(long) and same and _largest(labels) < long[-1]
    if kind is OutputKind.MAP:
        axis = class_axis_of_map(facts)
        if axis is not None:
            spots = tuple(n for at, n in enumerate(shape) if at != axis)
            return whole and tuple(n for n in wanted if n != 1) == tuple(n for n in spots if n != 1)
    if kind is OutputKind.STRINGS:
        return kind_of(labels.dtype) is Kind.TEXT
    if kind is OutputKind.INTEGERS:
        return whole and int(np.prod(wanted)) == int(np.prod(shape))
    if kind in (OutputKind.STATE, OutputKind.MAPS, OutputKind.OTHER, OutputKind.EMBEDDING):
        return False
    is_number = whole or kind_of(labels.dtype) is Kind.FLOAT
    return is_number and int(np.prod(wanted)) == int(np.prod(shape))


def nearness(facts: OutputFacts, labels: np.ndarray) -> float:
    """How near an output is to labels that fit it, by which it is told from others: more is nearer.

    The share of right choices where labels are those of classes; less the error elsewhere.
    """
    if facts.varies_in_shape or facts.dtype_kind is not Kind.FLOAT:
        return 0.0
    values = facts.values
    if values.size == labels.size:
        return -float(np.square(values.ravel() - labels.astype(np.float64).ravel()).mean())
    scores = values.reshape(len(values), *(n for n in facts.shape if n != 1))
    for axis in range(scores.ndim - 1, 0, -1):
        chosen = scores.argmax(axis=axis)
        if chosen.size == labels.size:
            return float((chosen.ravel() == labels.ravel()).mean())
    return 0.0


def _largest(labels: np.ndarray) -> int:
    return int(labels.max()) if labels.size else 0
