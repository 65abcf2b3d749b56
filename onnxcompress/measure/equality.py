"""The share of positions that are equal: for outputs of which near is not good enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from onnxcompress.measure.arrays import check_counts
from onnxcompress.measure.objects import same_value
from onnxcompress.measure.rates import lost, mean
from onnxcompress.measure.tally import RowTally


def equal_tally(output: np.ndarray | Sequence[Any], target: np.ndarray | Sequence[Any]) -> RowTally:
    """The share of equal positions, and 1; (samples, 2).

    A sample of another shape shares nothing; two without any positions are equal.

    Args:
        output: integers, booleans or texts, (samples, ...) or a list of one array a sample.
        target: the labels or the original's outputs, alike.

    Raises:
        DataError: there are not as many targets as samples.
    """
    check_counts(output, target)
    pairs = zip(output, target, strict=True)
    shares = [_share(np.asarray(ours), np.asarray(wanted)) for ours, wanted in pairs]
    return RowTally(np.stack([np.array(shares, dtype=np.float64), np.ones(len(shares))], axis=1))


def equal_rows_tally(output: Sequence[np.ndarray], target: Sequence[np.ndarray]) -> RowTally:
    """Rows that both hold, twice, and rows of both; (samples, 2). Their order does not count.

    For a free number of rows, such as what NonMaxSuppression selects: that is F1.

    Args:
        output: tables, (rows, columns) for each sample.
        target: those of the labels or of the original, alike.

    Raises:
        DataError: there are not as many targets as samples.
    """
    check_counts(output, target)
    rows = []
    for ours, wanted in zip(output, target, strict=True):
        left, right = _counts_of_rows(ours), _counts_of_rows(wanted)
        rows.append([2 * (left & right).total(), left.total() + right.total()])
    return RowTally(np.array(rows, dtype=np.float64))


def _counts_of_rows(table: np.ndarray) -> Counter[tuple[Any, ...]]:
    array = np.asarray(table)
    return Counter(map(tuple, array.reshape(-1, array.shape[-1]).tolist()))


equal_value: Final = mean
equal_drop: Final = lost(mean)


def _share(output: np.ndarray, target: np.ndarray) -> float:
    if output.shape != target.shape:
        return 0.0
    if not output.size:
        return 1.0
    if output.dtype == object and target.dtype == object:
        same = [same_value(*pair) for pair in zip(output.flat, target.flat, strict=True)]
        return float(np.mean(same))
    return float(np.mean(output == target))
