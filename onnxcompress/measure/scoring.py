"""Compares outputs with labels or with the reference's outputs, one row of counts a sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.data.casting import Kind, is_float, kind_of
from onnxcompress.errors import DataError
from onnxcompress.measure.objects import holds_nan
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.tally import ConfusionTally, RowTally

# Elements turned to float64 at once.
_BLOCK: Final = 1 << 21
_SAME: Final = 1e-10
"""Of the power; answers that vary by less are one answer in float32."""


def agreement_tally(output: Output, reference: Output) -> RowTally:
    """Positions where both choose the same class, and positions; (samples, 2)."""
    return _rows(
        [
            _counted(_classes(ours) == _classes(theirs))
            for ours, theirs in _blocks(output, reference)
        ]
    )


def top_tally(output: Output, labels: Output, k: int) -> RowTally:
    """Positions whose label is among the `k` highest scores, and positions with a label; (n, 2).

    Of equal scores the first class wins, so a model that says the same of all gains nothing.
    Labels below 0 do not count.

    Raises:
        DataError: labels are no class numbers of the output's classes, or `k` is no choice.
    """
    rows = []
    for scores, wanted in _blocks(output, labels):
        if not is_float(scores.dtype):
            if k > 1:
                raise DataError(f"top{k} needs scores, the output is {scores.dtype} class numbers")
            true = _class_labels(wanted, scores.shape, None)
            hit = scores == true
        else:
            classes = scores.shape[-1] if scores.ndim > 1 else 0
            if classes <= max(k, 1):
                raise DataError(
                    f"top{k} needs an output of more than {k} classes, this one has {classes} in "
                    f"its last axis; use module:function for a metric of your own"
                )
            true = _class_labels(wanted, scores.shape[:-1], classes)
            hit = _place(scores, true) < k
        rows.append(_counted(hit & (true >= 0), true >= 0))
    return _rows(rows)


def confusion_tally(output: Output, labels: Output) -> ConfusionTally:
    """Hits, labels and predictions by class.

    Raises:
        DataError: labels are no class numbers of the output's classes.
    """
    sample_of, trues, predictions = [], [], []
    done = 0
    for scores, wanted in _blocks(output, labels):
        predicted = _classes(scores)
        classes = scores.shape[-1] if is_float(scores.dtype) else None
        true = _class_labels(wanted, predicted.shape, classes)
        counted = true >= 0
        samples = np.arange(done, done + len(scores)).reshape(-1, *[1] * (true.ndim - 1))
        sample_of.append(np.broadcast_to(samples, true.shape)[counted])
        trues.append(true[counted])
        predictions.append(predicted[counted].astype(np.int64))
        done += len(scores)
    return ConfusionTally(
        done, np.concatenate(sample_of), np.concatenate(trues), np.concatenate(predictions)
    )


def likelihood_tally(output: Output, labels: Output) -> RowTally:
    """Negative log-likelihood of the labels in nats, and positions with a label; (samples, 2).

    The scores are logits: `log(sum(exp(scores))) - scores[label]` at each position, in float64.
    Labels below 0 do not count. What has no logarithm (a score of plus infinity) is infinite.

    Raises:
        DataError: labels are no class numbers of the output's classes, or the output no scores.
    """
    rows = []
    for scores, wanted in _blocks(output, labels):
        if not is_float(scores.dtype) or scores.ndim < 2:
            raise DataError(
                f"perplexity needs logits, the output is {scores.dtype} of shape {scores.shape}; "
                f"choose another output or metric"
            )
        classes = scores.shape[-1]
        true = _class_labels(wanted, scores.shape[:-1], classes)
        lost = _lost_likelihood(scores.reshape(-1, classes), true.reshape(-1))
        counted = (true >= 0).reshape(len(scores), -1)
        by_sample = np.where(counted, lost.reshape(counted.shape), 0.0).sum(axis=1)
        rows.append(np.stack([by_sample, counted.sum(axis=1)], axis=1))
    return _rows(rows)


def cosine_tally(output: Output, reference: Output) -> RowTally:
    """The cosine of the angle between both, and 1; (samples, 2). Two zero vectors agree.

    Both are taken as deviations from the reference's mean over samples, see `mean_answer`, so that
    what answers the same to all of them has no cosine to speak of.
    """
    centre = mean_answer(reference)
    rows = []
    for ours, theirs in _value_blocks(output, reference):
        ours, theirs = ours - centre, theirs - centre
        dot = np.einsum("ij,ij->i", ours, theirs)
        powers = [np.einsum("ij,ij->i", values, values) for values in (ours, theirs)]
        # Not the product of two roots: this way the cosine of equal vectors is 1 exactly.
        lengths = np.sqrt(powers[0] * powers[1])
        both_zero = np.logical_not(ours.any(axis=1) | theirs.any(axis=1))
        cosine = np.asarray(both_zero, dtype=np.float64)
        np.divide(dot, lengths, out=cosine, where=lengths > 0)
        rows.append(np.stack([cosine, np.ones(len(cosine))], axis=1))
    return _rows(rows)


def error_tally(output: Output, target: Output) -> RowTally:
    """Sums of squared error, of elements and of the target's squared deviation; (samples, 3).

    The deviation is that from the target's mean over samples, see `mean_answer`.

    Raises:
        DataError: `target` are labels of another shape.
    """
    centre = mean_answer(target)
    rows = []
    for ours, wanted in _value_blocks(output, target):
        error = np.square(ours - wanted).sum(axis=1)
        elements = np.full(len(ours), ours.shape[1], dtype=np.float64)
        rows.append(np.stack([error, elements, np.square(wanted - centre).sum(axis=1)], axis=1))
    return _rows(rows)


def mean_answer(answers: Output) -> NDArray[np.float64]:
    """The mean over samples of each element, shape (elements,); 0 where nothing varies.

    There is no mean over samples of different shapes, nor does a single sample tell what varies:
    what it says is measured from 0 then, and so is what always says the same.
    """
    nothing = np.zeros(1)
    if isinstance(answers, list) or len(answers) < 2:
        return nothing
    total = squares = nothing
    # Not in one piece: float64 takes twice the room of what is measured.
    step = max(1, _BLOCK // max(1, answers[:1].size))
    for begin in range(0, len(answers), step):
        block = _native(answers[begin : begin + step]).astype(np.float64)
        block = np.where(np.isfinite(block), block, 0).reshape(len(block), -1)
        total = total + block.sum(axis=0)
        squares = squares + np.square(block).sum(axis=0)
    mean = total / len(answers)
    spread = (squares - len(answers) * np.square(mean)).sum()
    return mean if spread > _SAME * squares.sum() else nothing


def has_nan(output: Output) -> bool:
    """Whether a float output holds NaN."""
    return holds_nan(output)


def same_infinities(output: Output, reference: Output) -> bool:
    """Whether both are infinite in the same places, with the same signs."""
    return all(
        bool(
            np.array_equal(np.where(np.isinf(ours), ours, 0), np.where(np.isinf(theirs), theirs, 0))
        )
        for ours, theirs in _blocks(output, reference)
    )


def _blocks(output: Output, target: Output) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of arrays with samples as first axis, few enough to be worked on at once.

    Raises:
        DataError: there are not as many targets as samples.
    """
    if len(output) != len(target):
        raise DataError(
            f"the output cannot be cut into samples: {len(output)} pieces for "
            f"{len(target)} labels; use module:function for a metric of your own"
        )
    if isinstance(output, list):
        for ours, theirs in zip(output, target, strict=True):
            yield _native(np.asarray(ours))[None], _native(np.asarray(theirs))[None]
        return
    step = max(1, _BLOCK // max(1, output[:1].size))
    for begin in range(0, len(output), step):
        ours = output[begin : begin + step]
        yield _native(ours), _native(np.asarray(target[begin : begin + step]))


def _value_blocks(output: Output, target: Output) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks in float64, flattened to (samples, elements); equal infinities count as zero error."""
    for ours, wanted in _blocks(output, target):
        count = len(ours)
        left = ours.astype(np.float64).reshape(count, -1)
        right = _fitted(wanted, ours.shape).astype(np.float64).reshape(count, -1)
        equal = np.isinf(left) & (left == right)
        if equal.any():
            left, right = np.where(equal, 0, left), np.where(equal, 0, right)
        yield left, right


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _classes(scores: np.ndarray) -> np.ndarray:
    """The class chosen at each position; whole numbers are classes already.

    Raises:
        DataError: there is no axis of two classes or more.
    """
    if not is_float(scores.dtype):
        return scores
    if scores.ndim < 2 or scores.shape[-1] < 2:
        raise DataError(
            f"no classes to choose from in an output of shape {scores.shape}; use cosine, mse or "
            f"module:function"
        )
    chosen: np.ndarray = scores.argmax(axis=-1)
    return chosen


def _place(scores: np.ndarray, true: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes come before the label's, shape of `true`."""
    clipped = np.maximum(true, 0)[..., None]
    own = np.take_along_axis(scores, clipped, axis=-1)
    earlier = np.arange(scores.shape[-1]) < clipped
    ahead: NDArray[np.int64] = ((scores > own) | ((scores == own) & earlier)).sum(axis=-1)
    return ahead


def _lost_likelihood(scores: np.ndarray, true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each position, from scores (positions, classes) and labels (positions,)."""
    lost = np.empty(len(true))
    step = max(1, _BLOCK // scores.shape[-1])
    for begin in range(0, len(true), step):
        rows = slice(begin, begin + step)
        wide = scores[rows].astype(np.float64)
        # Two infinities have no difference; the NaN that comes of it is dealt with below.
        with np.errstate(invalid="ignore"):
            wide -= wide.max(axis=-1, keepdims=True)
            own = np.take_along_axis(wide, np.maximum(true[rows], 0)[:, None], axis=-1)[:, 0]
            lost[rows] = np.log(np.exp(wide, out=wide).sum(axis=-1)) - own
    return np.nan_to_num(lost, nan=np.inf, posinf=np.inf)


def _class_labels(
    labels: np.ndarray, shape: Sequence[int], classes: int | None
) -> NDArray[np.int64]:
    if kind_of(labels.dtype) not in (Kind.INTEGER, Kind.BOOL):
        raise DataError(f"labels are {labels.dtype}, class numbers (integers) are needed")
    fitted = _fitted(labels, shape).astype(np.int64)
    if classes is not None and fitted.size and fitted.max() >= classes:
        raise DataError(f"label {fitted.max()} is beyond the output's {classes} classes (0..)")
    return fitted


def _fitted(target: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """`target` in `shape`, which may differ in axes of size 1 alone.

    Raises:
        DataError: it differs otherwise.
    """
    if target.shape == tuple(shape):
        return target
    if [n for n in target.shape if n != 1] == [n for n in shape if n != 1]:
        return target.reshape(shape)
    raise DataError(
        f"labels have shape {target.shape[1:]} for one sample, the output asks for "
        f"{tuple(shape[1:])}; choose another output or metric"
    )


def _counted(hit: np.ndarray, among: np.ndarray | None = None) -> NDArray[np.float64]:
    hits = hit.reshape(len(hit), -1).astype(np.float64)
    of = np.ones_like(hits) if among is None else among.reshape(len(hit), -1)
    return np.stack([hits.sum(axis=1), of.sum(axis=1)], axis=1)


def _rows(blocks: Sequence[NDArray[np.float64]]) -> RowTally:
    return RowTally(np.concatenate(blocks))
