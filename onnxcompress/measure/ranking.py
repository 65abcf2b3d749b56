"""How well scores rank: area under the ROC curve and equal error rate, on resampled samples.

Neither is a sum over samples, so the tally sorts once and then adds up weights along that order.
What scores of equal height cannot tell apart is half right (T. Fawcett, "An introduction to ROC
analysis", Pattern Recognition Letters 27, 2006). The error rates are equal where the line between
two points of the curve crosses the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.arrays import check_counts, real_numbers, whole_numbers
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.rates import finished, gained, lost, mean_of_defined, ratio
from onnxcompress.measure.tally import Sums, Weights
from onnxcompress.measure.weighing import Floats, by_sample, running_sums, sums_between

# Weights that are worked on at once: they stay in the processor's cache.
_BLOCK: Final = 1 << 18
# What a resample with only one class is worth, for the candidate and the reference alike.
_CHANCE: Final = 0.5

# From positives and negatives by falling score, each (steps, resamples), to one value each.
CurveValue = Callable[[Floats, Floats], NDArray[np.float64]]


class Runs:
    """Marked items by falling score, cut into as few steps as their ROC curve has corners.

    Items of equal score are one step; so are neighbours of the same mark, between which the curve
    is straight.

    Args:
        scores: shape (items,).
        positive: shape (items,), bool.
    """

    def __init__(self, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        # Within a tie, negatives before positives, so that each mark is one piece of it.
        self.order: NDArray[np.int64] = np.lexsort((positive, -scores))
        score, mark = scores[self.order], positive[self.order]
        tie_begins = np.flatnonzero(_changes(score))
        tie_ends = np.append(tie_begins, len(score))[1:] - 1
        mixed = mark[tie_begins] != mark[tie_ends]
        new_step = _changes(mark[tie_begins]) | mixed
        new_step[1:] |= mixed[:-1]
        step_begins = np.zeros(len(score), dtype=bool)
        step_begins[tie_begins[new_step]] = True
        self._pieces: NDArray[np.int64] = np.flatnonzero(step_begins | _changes(mark))
        self._step_of: NDArray[np.int64] = np.cumsum(step_begins)[self._pieces] - 1
        self._positive: NDArray[np.bool_] = mark[self._pieces]
        self._steps = int(step_begins.sum())

    def sums(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weights of the positives and of the negatives by step, each (steps, resamples).

        Args:
            weights: of the items in `order`, shape (items, resamples).
        """
        pieces = sums_between(weights, self._pieces)
        both = np.zeros((2, self._steps, weights.shape[1]), dtype=weights.dtype)
        for sums, chosen in zip(both, (self._positive, ~self._positive), strict=True):
            sums[self._step_of[chosen]] = pieces[chosen]
        return both[0], both[1]


def area(positives: Floats, negatives: Floats) -> NDArray[np.float64]:
    """The area under the ROC curve: the share of pairs in the right order, ties half.

    Args:
        positives: weights by falling score, shape (steps, resamples).
        negatives: the same of negatives.

    Returns:
        Shape (resamples,), NaN where there are no positives or no negatives.
    """
    before = running_sums(positives) - positives / 2
    pairs = np.prod([side.sum(axis=0, dtype=np.float64) for side in (positives, negatives)], axis=0)
    ordered = np.einsum("ij,ij->j", negatives, before, dtype=np.float64)
    return ratio(ordered, pairs, np.nan)


def equal_error(
    positives: Floats,
    negatives: Floats,
    *,
    ahead: NDArray[np.float64] | None = None,
    totals: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The error rate where as many positives are rejected as negatives are accepted.

    Args:
        positives: weights by falling score, shape (steps, resamples).
        negatives: the same of negatives.
        ahead: positives and negatives of higher scores than the first step's, shape (2, resamples).
        totals: all positives and negatives, shape (2, resamples); None means those in the steps.

    Returns:
        Shape (resamples,), NaN where there are no positives or no negatives.
    """
    resamples = positives.shape[1]
    if ahead is None:
        ahead = np.zeros((2, resamples))
    if totals is None:
        totals = np.stack([side.sum(axis=0, dtype=np.float64) for side in (positives, negatives)])
    all_positives, all_negatives = (np.where(total > 0, total, np.nan) for total in totals)
    rejected = 1 - _from(ahead[0], positives) / all_positives
    accepted = _from(ahead[1], negatives) / all_negatives
    more = accepted - rejected
    after = (more >= 0).argmax(axis=0)
    before = np.maximum(after - 1, 0)
    columns = np.arange(resamples)
    left, right = more[before, columns], more[after, columns]
    part = ratio(-left, right - left, 0.0)
    begin, end = accepted[before, columns], accepted[after, columns]
    rate: NDArray[np.float64] = begin + part * (end - begin)
    return rate


class RankingTally:
    """Scores with marks; gives the finished value, the mean over columns that hold both marks.

    Args:
        samples: how many samples there are.
        sample_of: the sample of each position, shape (positions,).
        scores: shape (positions, classes).
        marks: 1 positive, 0 negative, -1 not counted; shape (positions, columns). One column for
            two classes of which the last is positive.
        exclusive: whether a position is of one class alone, so that others' scores count too.
        value: what is made of the curve of each column.
    """

    def __init__(
        self,
        samples: int,
        sample_of: NDArray[np.int64],
        scores: NDArray[np.float64],
        marks: NDArray[np.int8],
        *,
        exclusive: bool,
        value: CurveValue,
    ) -> None:
        self._samples = samples
        self._sample_of = sample_of
        self._scores = scores
        self._marks = marks
        self._exclusive = exclusive
        self._value = value

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return self._samples

    def sums(self, weights: Weights) -> Sums:
        """The value of each resample, shape (resamples, 1).

        A class that a resample does not hold is left out of its mean; a resample of one class alone
        tells nothing and is worth 0.5, for candidate and reference alike.

        Raises:
            DataError: the labels are all of one class.
        """
        if not self._columns:
            raise DataError(
                "the labels are all of one class, so there is nothing to rank; give samples of "
                "both, or choose another metric"
            )
        by_column = np.full((len(self._columns), len(weights)), np.nan)
        step = max(1, _BLOCK // max(1, len(self._sample_of)))
        for begin in range(0, len(weights), step):
            rows = slice(begin, begin + step)
            drawn = by_sample(weights[rows], len(self._sample_of))
            for values, (runs, sample_of) in zip(by_column, self._columns, strict=True):
                values[rows] = self._value(*runs.sums(drawn[sample_of]))
        return mean_of_defined(by_column, _CHANCE)[:, None]

    @cached_property
    def _columns(self) -> list[tuple[Runs, NDArray[np.int64]]]:
        """Of each column with both marks: its steps, and the samples in their order."""
        columns = []
        scores = _odds(self._scores) if self._exclusive else self._scores
        for score, mark in zip(scores.T[-self._marks.shape[1] :], self._marks.T, strict=True):
            counted = np.flatnonzero(mark >= 0)
            positive = mark[counted] > 0
            if positive.any() and not positive.all():
                runs = Runs(score[counted], positive)
                columns.append((runs, self._sample_of[counted][runs.order]))
        return columns

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies in order."""
        begins = np.cumsum([0, *(tally._samples for tally in tallies)])
        shifted = [t._sample_of + begin for t, begin in zip(tallies, begins[:-1], strict=True)]
        return cls(
            int(begins[-1]),
            np.concatenate(shifted),
            np.concatenate([tally._scores for tally in tallies]),
            np.concatenate([tally._marks for tally in tallies]),
            exclusive=tallies[0]._exclusive,
            value=tallies[0]._value,
        )


def auc_tally(output: Output, labels: Output) -> RankingTally:
    """For the area under the ROC curve; the value itself, (resamples, 1).

    Args:
        output: scores or probabilities, (samples, ..., classes) or a list of one array a sample;
            binary ones may be (samples,), (samples, 1) or (samples, 2), the last column positive.
        labels: class numbers of the output's shape without its last axis (two classes: 0 and 1;
            more: each class against the rest), or 0 and 1 for each score. Labels below 0 do not
            count.

    Raises:
        DataError: labels are no such numbers, or do not fit the output.
    """
    return _ranking_tally(output, labels, area)


def eer_tally(output: Output, labels: Output) -> RankingTally:
    """For the equal error rate; the value itself, (resamples, 1). Arguments as for `auc_tally`.

    Raises:
        DataError: labels are no such numbers, or do not fit the output.
    """
    return _ranking_tally(output, labels, equal_error)


def decisions(reference: Output) -> Output:
    """What the original decides, as labels for `auc_tally` or `eer_tally`.

    The highest of two classes or more; of single scores, whether they reach 0.5 where all are
    within 0..1, and 0 otherwise.

    Raises:
        DataError: the output holds no numbers.
    """
    if isinstance(reference, list):
        arrays = [real_numbers(np.asarray(array), "the outputs") for array in reference]
        cut = _cut(arrays)
        return [_decided(array[None], cut)[0] for array in arrays]
    scores = real_numbers(reference, "the outputs")
    return _decided(scores, _cut([scores]))


auc_value: Final = finished
auc_drop: Final = lost(finished)
eer_value: Final = finished
eer_drop: Final = gained(finished)


def _from(ahead: NDArray[np.float64], steps: Floats) -> NDArray[np.float64]:
    """What is accepted before the first step and after each, (1 + steps, resamples)."""
    return np.vstack([ahead[None], running_sums(steps) + ahead])


def _changes(array: np.ndarray) -> NDArray[np.bool_]:
    """Where an item differs from the one before; the first always does."""
    changed: NDArray[np.bool_] = np.ones(len(array), dtype=bool)
    changed[1:] = array[1:] != array[:-1]
    return changed


def _within_unit(scores: NDArray[np.float64]) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())


def _cut(arrays: Sequence[NDArray[np.float64]]) -> float:
    return 0.5 if all(_within_unit(array) for array in arrays) else 0.0


def _decided(scores: NDArray[np.float64], cut: float) -> NDArray[np.int64]:
    if scores.ndim > 1 and scores.shape[-1] > 1:
        chosen: NDArray[np.int64] = scores.argmax(axis=-1)
        return chosen
    return (scores >= cut).astype(np.int64)


def _odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of exclusive classes as they can be compared between positions, (positions, classes).

    Probabilities are compared as they are, logits by `score - log(sum(exp(others)))`, which orders
    them as their softmax does, without its rounding to 0 and 1.
    """
    if scores.shape[1] < 2 or _within_unit(scores):
        return scores
    highest = (np.arange(len(scores)), scores.argmax(axis=1))
    top = scores[highest]
    others = scores.copy()
    others[highest] = -np.inf
    second = others.max(axis=1)
    # Equal infinities have no difference.
    with np.errstate(invalid="ignore"):
        rest = np.exp(np.nan_to_num(others - second[:, None], nan=0.0)).sum(axis=1)
        below = np.nan_to_num(others - top[:, None], nan=0.0, neginf=-np.inf)
        powers = np.exp(below)
        odds: NDArray[np.float64] = below - np.log(1 + powers.sum(axis=1, keepdims=True) - powers)
        odds[highest] = np.nan_to_num(top - second, nan=0.0, posinf=np.inf) - np.log(rest)
    return odds


def _ranking_tally(output: Output, labels: Output, value: CurveValue) -> RankingTally:
    check_counts(output, labels)
    if isinstance(output, list):
        pairs = [
            (np.asarray(ours)[None], np.asarray(wanted)[None])
            for ours, wanted in zip(output, labels, strict=True)
        ]
    else:
        pairs = [(output, np.asarray(labels))]
    found = [_positions(ours, wanted) for ours, wanted in pairs]
    kinds = {(scores.shape[1], marks.shape[1], exclusive) for scores, marks, exclusive in found}
    if len(kinds) != 1:
        raise DataError(
            "the number of classes differs from sample to sample; choose another output"
        )
    lengths = (
        [len(scores) for scores, _, _ in found]
        if isinstance(output, list)
        else [len(found[0][0]) // max(1, len(output))] * len(output)
    )
    return RankingTally(
        len(output),
        np.repeat(np.arange(len(output)), lengths),
        np.concatenate([scores for scores, _, _ in found]),
        np.concatenate([marks for _, marks, _ in found]),
        exclusive=found[0][2],
        value=value,
    )


def _positions(
    output: np.ndarray, labels: np.ndarray
) -> tuple[NDArray[np.float64], NDArray[np.int8], bool]:
    """Scores (positions, classes), marks (positions, columns), are classes exclusive?"""
    scores = real_numbers(output, "the outputs")
    wanted = whole_numbers(labels, "labels")
    if scores.ndim == 1:
        scores = scores[:, None]
        wanted = wanted.reshape(-1, 1) if wanted.size == len(wanted) else wanted
    classes = scores.shape[-1]
    flat = scores.reshape(-1, classes)
    if wanted.shape == scores.shape:
        return flat, _binary(wanted.reshape(-1, classes)), False
    if [n for n in wanted.shape if n != 1] != [n for n in scores.shape[:-1] if n != 1]:
        raise DataError(
            f"labels have shape {wanted.shape[1:]} for one sample and the output has "
            f"{scores.shape[1:]}; one class number is needed for each row of scores, or 0 and 1 "
            f"for each score"
        )
    true = wanted.reshape(-1, 1)
    if classes <= 2:
        return flat, _binary(true), True
    if true.size and true.max() >= classes:
        raise DataError(f"label {true.max()} is beyond the output's {classes} classes (0..)")
    marks = np.where(true < 0, -1, true == np.arange(classes)).astype(np.int8)
    return flat, marks, True


def _binary(labels: NDArray[np.int64]) -> NDArray[np.int8]:
    if labels.size and labels.max() > 1:
        raise DataError(
            f"label {labels.max()} where 0 and 1 are needed; store 1 for what is to be found and 0 "
            f"for the rest"
        )
    return np.maximum(labels, -1).astype(np.int8)
