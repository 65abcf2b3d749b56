"""Which kind an output is: a table of rules, tried in order, the first that fits decides.

docs/measuring.md shows the table. Where nothing speaks for another kind, an output is numbers,
which is the strictest way to be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.data.casting import Kind, kind_of
from onnxcompress.judging.facts import OutputFacts
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.looks import (
    are_alike,
    are_competing,
    are_peaked,
    are_smooth,
    are_told_apart,
    have_unit_length,
)
from onnxcompress.judging.words import (
    CLASS_WORDS,
    EMBEDDING_WORDS,
    HIDDEN_WORDS,
    POINT_WORDS,
    SCORE_WORDS,
    words_of,
)

_POOLING: Final = frozenset(
    [
        "GlobalAveragePool",
        "GlobalMaxPool",
        "ReduceMean",
        "LpNormalization",
        "LayerNormalization",
        "BatchNormalization",
    ]
)
_MANY: Final = 64
"""From so many values on, numbers that are no scores of classes are taken for an embedding."""


FEWEST_ANCHORS: Final = 32
"""Detectors look at so many places, or more."""

_CHANCE: Final = 1.5
"""Labels fit scores whose highest is right so many times as often as chance would have it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The kind of an output, and why."""

    kind: OutputKind
    reason: str


class _Case:
    """An output beside the labels that may belong to it."""

    def __init__(self, facts: OutputFacts, labels: np.ndarray | None) -> None:
        self.facts = facts
        self.labels = labels
        self.words = words_of(facts.name)
        self.shape = facts.shape
        self.rank = sum(length != 1 for length in facts.shape)
        """Axes of a sample, those of length 1 not counted."""
        axes = facts.declared[1:] if facts.batch_first else facts.declared
        self.is_open = facts.varies_in_shape or (
            len(axes) == 1 and axes[0] is not None and not isinstance(axes[0], int)
        )

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """The vectors along the last axis that is not 1, one in each row."""
        long = [length for length in self.shape if length != 1] or [1]
        rows = self.facts.values.reshape(-1, long[-1])
        finite = rows[np.isfinite(rows)]
        if finite.size in (0, rows.size):
            return rows
        return np.clip(rows, finite.min(), finite.max())  # a class that is masked out scores least

    @cached_property
    def has_class_words(self) -> bool:
        return bool(self.words & CLASS_WORDS)

    @cached_property
    def reach_both_ends(self) -> bool:
        """Whether values lie between 0 and 1, and come near to both."""
        values = self.facts.values
        return self.facts.are_fractions and bool(values.max() > 0.9) and bool(values.min() < 0.1)

    @cached_property
    def last(self) -> int:
        """The last axis of a sample that is not 1."""
        return max(axis for axis, length in enumerate(self.shape) if length != 1)

    @cached_property
    def are_probabilities(self) -> bool:
        return self.facts.sums_to_one(self.last) or self.facts.logs_sum_to_one(self.last)

    @cached_property
    def class_axis(self) -> int | None:
        """The axis of a map along which probabilities sum to 1, or scores of classes compete."""
        for axis in (0, len(self.shape) - 1):
            if self.facts.sums_to_one(axis) or self.facts.logs_sum_to_one(axis):
                return axis
        return None

    @cached_property
    def labels_are_classes(self) -> bool:
        """Whether labels are class numbers of the last axis, and the highest score often right."""
        if self.labels is None or kind_of(self.labels.dtype) is not Kind.INTEGER:
            return False
        if self.facts.varies_in_shape or self.rank == 0:
            return False
        looked = np.asarray(self.facts.looked)
        scores = looked.reshape(len(looked), *self._long_axes)
        labels = self.labels
        if labels.shape[1:] == (1,):
            labels = labels[:, 0]
        if labels.shape != scores.shape[:-1] or not labels.size:
            return False
        told = labels >= 0
        if labels.max() >= scores.shape[-1] or not told.any():
            return False
        right = (scores.argmax(axis=-1) == labels)[told].mean()
        shares = np.bincount(labels[told].ravel(), minlength=scores.shape[-1]) / told.sum()
        return bool(right > _CHANCE * shares.max()) or bool(right > 0.5 and right > shares.max())

    @property
    def _long_axes(self) -> tuple[int, ...]:
        return tuple(length for length in self.shape if length != 1)


@dataclass(frozen=True)
class _Rule:
    """When it fits, the output is of this kind, for this reason."""

    kind: OutputKind
    reason: str
    fits: Callable[[_Case], bool]


def _is_line(case: _Case) -> bool:
    return case.rank == 1 and not case.facts.varies_in_shape


def _is_plane(case: _Case) -> bool:
    return case.rank == 2 and not case.facts.varies_in_shape


def _is_token_table(case: _Case) -> bool:
    """Scores of tokens at each of several places: two axes, the last of which is not free."""
    if case.facts.varies_in_shape:
        return _alike(case) and len(case.shape) == 2 and case.shape[-1] > 1
    return case.rank == 2


def _alike(case: _Case) -> bool:
    """Whether samples differ in the length of their first axis alone."""
    return len({each.shape[1:] for each in case.facts.looked}) == 1


def _is_embedding_line(case: _Case) -> bool:
    if not _is_line(case) or case.rows.shape[1] < 16:
        return False
    return bool(case.words & EMBEDDING_WORDS) or have_unit_length(case.rows)


_RULES: Final[tuple[_Rule, ...]] = (
    _Rule(OutputKind.MAPS, "each sample is a map from keys to values", lambda c: c.facts.has_maps),
    _Rule(OutputKind.STRINGS, "it is text", lambda c: c.facts.dtype_kind is Kind.TEXT),
    _Rule(
        OutputKind.OTHER,
        "it is neither numbers nor text",
        lambda c: c.facts.dtype_kind is Kind.OTHER,
    ),
    _Rule(
        OutputKind.INTEGERS,
        "its elements are whole numbers or truth values",
        lambda c: c.facts.dtype_kind in (Kind.INTEGER, Kind.BOOL),
    ),
    _Rule(
        OutputKind.INTEGERS,
        "it is empty on these samples, so all that can be seen is whether it stays so",
        lambda c: not c.facts.values.size,
    ),
    _Rule(
        OutputKind.STATE,
        "an input of that name takes it back",
        lambda c: c.facts.fed_back is not None,
    ),
    _Rule(
        OutputKind.MAP,
        "a number for each time of a recording of any length",
        lambda c: c.is_open and len(c.shape) <= 1,
    ),
    _Rule(OutputKind.NUMBER, "one number for each sample", lambda c: c.rank == 0),
    _Rule(
        OutputKind.CHOICE,
        "its values are probabilities that sum to 1",
        lambda c: _is_line(c) and c.are_probabilities,
    ),
    _Rule(
        OutputKind.CHOICE,
        "the labels are numbers of its columns, and the highest score is often the label",
        lambda c: _is_line(c) and c.labels_are_classes,
    ),
    _Rule(
        OutputKind.EMBEDDING,
        "its name or its unit length says that it is a vector to compare with others",
        _is_embedding_line,
    ),
    _Rule(
        OutputKind.LABELS,
        "a Sigmoid gives each of its scores",
        lambda c: _is_line(c) and c.facts.op == "Sigmoid",
    ),
    _Rule(
        OutputKind.LABELS,
        "scores between 0 and 1 that do not sum to 1",
        lambda c: _is_line(c) and c.has_class_words and c.facts.are_fractions,
    ),
    _Rule(
        OutputKind.MAP,
        "neighbouring values nearly agree, as along a curve",
        lambda c: _is_line(c) and are_smooth(c.rows),
    ),
    _Rule(
        OutputKind.CHOICE,
        "its name says that it scores classes",
        lambda c: _is_line(c) and c.has_class_words,
    ),
    _Rule(
        OutputKind.EMBEDDING,
        "it comes straight from pooling or normalization",
        lambda c: _is_line(c) and c.rows.shape[1] >= _MANY and c.facts.op in _POOLING,
    ),
    _Rule(
        OutputKind.CHOICE,
        "one of its scores stands out in each sample, and not always the same one",
        lambda c: _is_line(c) and are_peaked(c.rows) and bool(c.rows.min() < 0),
    ),
    _Rule(
        OutputKind.CHOICE,
        "its columns rise at each other's cost, and not always the same one is the highest",
        lambda c: (
            _is_line(c)
            and c.rows.shape[1] < _MANY
            and bool(c.rows.min() < 0)
            and are_competing(c.rows)
        ),
    ),
    _Rule(
        OutputKind.LABELS,
        "scores between 0 and 1 that come near to both",
        lambda c: _is_line(c) and c.rows.shape[1] >= _MANY and c.reach_both_ends,
    ),
    _Rule(
        OutputKind.NUMBERS,
        "its columns measure different things, by its name or by how far apart they lie",
        lambda c: _is_line(c) and (bool(c.words & POINT_WORDS) or are_told_apart(c.rows)),
    ),
    _Rule(
        OutputKind.EMBEDDING,
        f"{_MANY} values or more, none of which stands out",
        lambda c: _is_line(c) and c.rows.shape[1] >= _MANY,
    ),
    _Rule(
        OutputKind.SEQUENCE,
        "probabilities of tokens at each place",
        lambda c: _is_token_table(c) and c.are_probabilities,
    ),
    _Rule(
        OutputKind.SEQUENCE,
        "the labels are tokens at each place",
        lambda c: _is_plane(c) and c.labels_are_classes,
    ),
    _Rule(
        OutputKind.SEQUENCE,
        "its name says that it scores tokens at each place",
        lambda c: _is_token_table(c) and c.has_class_words and not c.facts.are_fractions,
    ),
    _Rule(
        OutputKind.SEQUENCE,
        "one score stands out at each place, and not always the same one",
        lambda c: (
            _is_token_table(c)
            and c.shape[-1] >= 16
            and c.facts.op not in ("Sigmoid", "Concat", *_POOLING)
            and are_alike(c.rows, c.shape)
            and not c.words & (EMBEDDING_WORDS | HIDDEN_WORDS)
            and are_peaked(c.rows)
        ),
    ),
    _Rule(OutputKind.MAP, "values along two axes or more", lambda c: c.rank >= 2),
)


def kind_of_output(
    facts: OutputFacts,
    labels: np.ndarray | None = None,
    others: Sequence[OutputFacts] = (),
) -> Finding:
    """Infers what an output says.

    Args:
        facts: what is known of it.
        labels: of the samples that were looked at, if there are any that may belong to it.
        others: the model's outputs.
    """
    if any(_are_anchors_of(facts, each) for each in others):
        return Finding(
            kind=OutputKind.MAP, reason="values of anchors, whose boxes are another output"
        )
    if sum(_is_at_another_scale(facts, each) for each in others) > 1:
        return Finding(
            kind=OutputKind.MAP, reason="as wide as other outputs, which look at other scales"
        )
    case = _Case(facts, labels)
    for rule in _RULES:
        if rule.fits(case):
            return Finding(kind=rule.kind, reason=rule.reason)
    return Finding(
        kind=OutputKind.NUMBERS, reason="several numbers, and nothing says that they are scores"
    )


def _are_anchors_of(facts: OutputFacts, boxes: OutputFacts) -> bool:
    """Whether an output gives values for each of the many boxes that another gives."""
    if facts is boxes or not facts.dtype_kind is boxes.dtype_kind is Kind.FLOAT:
        return False
    if facts.fed_back or boxes.fed_back or min(len(facts.shape), len(boxes.shape)) < 2:
        return False
    *_, rows, width = boxes.shape
    return width == 4 and rows >= FEWEST_ANCHORS and facts.shape[-2] == rows


def _is_at_another_scale(facts: OutputFacts, other: OutputFacts) -> bool:
    """Whether another output has as many columns and four times the rows, or a quarter of them.

    Detectors that look at pictures in several scales have a table of anchors for each.
    """
    if facts is other or not facts.dtype_kind is other.dtype_kind is Kind.FLOAT:
        return False
    if min(len(facts.shape), len(other.shape)) < 2 or facts.shape[-1] != other.shape[-1]:
        return False
    few, many = sorted((facts.shape[-2], other.shape[-2]))
    return few >= 4 and many >= 3 * few


def are_scores(facts: OutputFacts) -> bool:
    """Whether values are scores between 0 and 1, by what computes them or what they are called."""
    words = words_of(facts.name)
    return facts.is_bounded or (bool(words & SCORE_WORDS) and facts.are_fractions)
