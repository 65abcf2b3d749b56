"""Which outputs of a model are a detector's, and how they are to be read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.data.casting import Kind
from onnxcompress.judging.detections import (
    BoxForm,
    DetectionRows,
    Indexed,
    RawHead,
    SplitHead,
    Suppressed,
    grid_of,
)
from onnxcompress.judging.facts import OutputFacts
from onnxcompress.judging.inference import FEWEST_ANCHORS
from onnxcompress.judging.readings import Reading

_SUREST: Final = 16
"""Anchors of the highest scores, by which a head is told."""
_BOX_WORDS: Final = re.compile(r"box|det", re.IGNORECASE)
_SCORE_WORDS: Final = re.compile(r"score|logit|conf|cls|class|prob", re.IGNORECASE)
_LIKELY: Final = 0.98
"""The share of boxes that has to be in order for a form to be believed."""


@dataclass(frozen=True, kw_only=True)
class Detector:
    """Outputs that give boxes with scores together.

    Attributes:
        outputs: in the order that `reading` wants.
        reading: how detections come out of them.
        reason: what gave them away.
    """

    outputs: tuple[str, ...]
    reading: Reading
    reason: str


def detectors(facts: Sequence[OutputFacts]) -> Iterator[Detector]:
    """Finds the outputs that are a detector's; none is in two of them."""
    numbers = [each for each in facts if each.dtype_kind is Kind.FLOAT and each.fed_back is None]
    boxes = [each for each in numbers if _last(each) == 4 and _rows(each) is not None]
    # Heads of several levels wait for decoding: their boxes are distances, or the like.
    levels = {each.shape[-2] for each in boxes if len(each.shape) > 1 and not each.varies_in_shape}
    if len(levels) > 1 and min(levels) > 1:
        boxes = []
    for box in boxes:
        found = _with_scores(box, facts)
        if found is not None:
            yield found
            return
    for each in numbers:
        reading = _raw_head(each)
        if reading is not None:
            yield Detector(
                outputs=(each.name,),
                reading=reading,
                reason=f"four columns of boxes ({reading.form.value}), the others are scores",
            )
            return
        rows = _detection_rows(each)
        beside: list[OutputFacts] = []
        if rows is not None and rows.label is None:
            beside = [other for other in facts if _are_classes_of(other, each)][:1]
        if rows is not None:
            yield Detector(
                outputs=(each.name, *(other.name for other in beside)),
                reading=rows,
                reason="rows of boxes in order and a score between 0 and 1"
                + (", and a whole class number" if beside or rows.label is not None else ""),
            )
            return


def _arrays(facts: OutputFacts) -> list[np.ndarray]:
    """Samples that were looked at, without axes of length 1 in front."""
    arrays = []
    for each in facts.looked:
        while each.ndim > 1 and each.shape[0] == 1 and each.ndim > 2:
            each = each[0]
        arrays.append(each)
    return arrays


def _last(facts: OutputFacts) -> int:
    return facts.shape[-1] if facts.shape else 0


def _rows(facts: OutputFacts) -> list[int] | None:
    """How many boxes each sample has, for an output of boxes."""
    if any(np.shape(each)[-1:] != (4,) for each in facts.looked):
        return None
    return [each.size // 4 for each in facts.looked]


def _with_scores(box: OutputFacts, facts: Sequence[OutputFacts]) -> Detector | None:
    """A detector whose boxes have an output of their own."""
    rows = _rows(box)
    table = np.concatenate([each.reshape(-1, 4) for each in box.looked]).astype(np.float64)
    if rows is None:
        return None
    others = [each for each in facts if each is not box]
    floats = [each for each in others if each.dtype_kind is Kind.FLOAT]
    scores = [each for each in floats if each.are_fractions]
    if not scores:
        scores = [each for each in floats if _SCORE_WORDS.search(each.name)]
    indices = [
        each
        for each in others
        if each.dtype_kind is Kind.INTEGER and _last(each) == 3 and len(each.shape) >= 2
    ]
    counts = [
        each
        for each in others
        if "num" in each.name.lower()
        and each.dtype_kind in (Kind.INTEGER, Kind.FLOAT)
        and set(_sizes(each)) == {1}
        and _holds_whole_numbers(each)
    ]
    form = _form(table)
    if form is None:
        return None
    if not len(table):
        scores = [each for each in floats if _SCORE_WORDS.search(each.name)]
    by_row = [
        each
        for each in scores
        if _sizes(each) == rows
        and (not len(table) or (each.are_fractions and not _holds_whole_numbers(each)))
    ]
    if by_row:
        classes = [
            each
            for each in others
            if each is not by_row[0] and _sizes(each) == rows and _holds_whole_numbers(each)
        ]
        if classes or box.varies_in_shape or _BOX_WORDS.search(box.name):
            named = [box, by_row[0], *classes[:1], *counts[:1]]
            reading = Suppressed(form=form, has_classes=bool(classes), counted=bool(counts))
            return Detector(
                outputs=tuple(each.name for each in named),
                reading=reading,
                reason="boxes, and in other outputs a score" + (" and class" if classes else ""),
            )
    for each in scores:
        if box.varies_in_shape or each.varies_in_shape or min(rows) < FEWEST_ANCHORS:
            continue
        shape = [n for n in each.shape if n != 1]
        if len(each.shape) < 2 or len(shape) > 2 or rows[0] not in shape:
            continue
        axis = len(each.shape) - 1 if each.shape[-1] != rows[0] else len(each.shape) - 2
        if indices and axis == len(each.shape) - 2:
            names = (box.name, each.name, indices[0].name)
            reason = "boxes and scores of all anchors, and the rows that were selected"
            return Detector(outputs=names, reading=Indexed(form=form), reason=reason)
        background = _background(each, axis)
        return Detector(
            outputs=(box.name, each.name),
            reading=SplitHead(
                form=form,
                score_axis=axis,
                background=background,
                are_logits=not each.are_fractions,
            ),
            reason="boxes of all anchors, and their scores in another output",
        )
    return None


def _sizes(facts: OutputFacts) -> list[int]:
    return [np.size(each) for each in facts.looked]


def _holds_whole_numbers(facts: OutputFacts) -> bool:
    if facts.dtype_kind is Kind.INTEGER:
        return True
    values = facts.values if facts.dtype_kind is Kind.FLOAT else np.array([0.5])
    return bool((values == np.round(values)).all())


def _background(scores: OutputFacts, axis: int) -> int | None:
    """The class of no object, the first or last, if a softmax gives or is to give the scores.

    Logits of which one is above 0 nearly everywhere, and mostly that of one class, wait for one:
    those for a sigmoid are all below it where there is nothing.
    """
    table = np.moveaxis(scores.values, axis + 1, -1)
    chosen = np.bincount(table.argmax(axis=-1).ravel(), minlength=table.shape[-1])
    last = table.shape[-1] - 1
    background = last if chosen[last] > chosen[0] else 0
    if scores.are_fractions:
        return background if scores.sums_to_one(axis) else None
    is_sure = float(np.median(table.max(axis=-1))) > 0
    return background if last and is_sure and chosen[background] > chosen.sum() / 2 else None


def _form(table: NDArray[np.float64]) -> BoxForm | None:
    """What the four numbers are, from boxes of shape (boxes, 4)."""
    if not np.isfinite(table).all():
        return None
    if not len(table):
        return BoxForm.CORNERS
    ordered = (table[:, 2] >= table[:, 0]) & (table[:, 3] >= table[:, 1])
    if ordered.mean() >= _LIKELY:
        return BoxForm.CORNERS
    return BoxForm.CENTRE if bool((table[:, 2:] >= 0).all()) else None


def _raw_head(facts: OutputFacts) -> RawHead | None:
    """A head of anchors, by its first four columns and the scores behind them."""
    shape = [n for n in facts.shape if n != 1]
    if len(shape) != 2 or facts.varies_in_shape:
        return None
    axis = int(shape[1] <= shape[0])
    anchors, features = shape[1 - axis], shape[axis]
    if features < 5 or anchors < max(FEWEST_ANCHORS, features + 1):
        return None
    planes = facts.values.reshape(len(facts.looked), *shape)
    tables = np.swapaxes(planes, 1, 2) if axis == 0 else planes
    scores = tables[..., 4:]
    if scores.min() < 0 or scores.max() > 1 + 1e-6:
        return None
    boxes = tables[..., :4]
    is_outside = bool(boxes.max() > 1.5) or bool(boxes.min() < 0)
    if not is_outside and not _BOX_WORDS.search(facts.name):
        return None
    has_objectness = (
        axis == 1 and features >= 6 and _has_objectness(scores.reshape(-1, features - 4))
    )
    if boxes[..., 2:].min() < 0 and grid_of(anchors) is not None and boxes.max() < 32:
        form = BoxForm.GRID
    else:
        best = scores.max(axis=-1)
        told = boxes[best >= np.quantile(best, 0.9)]
        found = _form(told.reshape(-1, 4))
        if found is None:
            return None
        form = found
    return RawHead(feature_axis=axis, form=form, has_objectness=has_objectness)


def _has_objectness(scores: NDArray[np.float64]) -> bool:
    """Whether the first score is that of any object, told apart from that of the first class.

    Where it is high one of the others is too, unless it is the score of a class itself.
    """
    first, others = scores[:, 0], scores[:, 1:].max(axis=1)
    if np.ptp(first) == 0:
        return True
    surest = np.argsort(-first, kind="stable")[:_SUREST]
    return bool(np.median(others[surest]) >= np.median(first[surest]) / 2)


_ROW_FORMS: Final = {
    6: ((0, 4, 5), (0, 5, 4), (2, 1, 0)),
    7: ((1, 6, 5), (3, 2, 1), (1, 5, 6)),
    5: ((0, 4, None),),
}
"""By columns: where the box, the score and the class stand."""


def _are_classes_of(facts: OutputFacts, rows: OutputFacts) -> bool:
    """Whether an output holds one whole number for each row of another."""
    count = [each.size // each.shape[-1] for each in rows.looked]
    return facts is not rows and _sizes(facts) == count and _holds_whole_numbers(facts)


def _detection_rows(facts: OutputFacts) -> DetectionRows | None:
    """Rows that suppression left."""
    widths = {each.shape[-1:] for each in facts.looked}
    if len(widths) > 1 or not facts.shape or not facts.shape[-1]:
        return None
    table = np.concatenate([each.reshape(-1, facts.shape[-1]) for each in facts.looked])
    table = table.astype(np.float64)
    if not np.isfinite(table).all():
        return None
    for box, score, label in _ROW_FORMS.get(table.shape[1], ()):
        if label is None and not (facts.varies_in_shape or _BOX_WORDS.search(facts.name)):
            continue
        boxes, scores = table[:, box : box + 4], table[:, score]
        labels = np.zeros(len(table)) if label is None else table[:, label]
        if not len(table):
            return DetectionRows(box=box, score=score, label=label)
        is_score = bool(scores.min() >= 0) and bool(scores.max() <= 1) and len(set(scores)) > 2
        is_label = bool((labels == np.round(labels)).all())
        if is_score and is_label and _form(boxes) is BoxForm.CORNERS and boxes.max() > 0:
            return DetectionRows(box=box, score=score, label=label)
    return None
