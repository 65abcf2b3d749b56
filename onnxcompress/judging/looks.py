"""Statistics of scores: do they look like those of classes, of an embedding, of a curve?"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_EXPECTED_TOP: Final = {2: 0.56, 3: 0.85, 4: 1.03, 5: 1.16, 8: 1.42, 10: 1.54, 16: 1.77, 32: 2.07}
_FEWEST_CLASSES: Final = 5
_MARGIN: Final = 1.2
_SKEW: Final = 1.2
_FAR: Final = 2.5
_APART: Final = 3.0
_COMPETING: Final = 0.25
_UNLIKE: Final = 10.0
_UNIT: Final = 1e-3
_SMOOTH: Final = 0.9


def are_peaked(rows: NDArray[np.float64]) -> bool:
    """Whether one score of each row stands out, and not the same one throughout, as classes' do.

    The highest score of `n` independent normal ones lies about sqrt(2 ln n) deviations above their
    mean (less for few); scores of a trained classifier lie further out, and further than the lowest
    lies below, unlike a feature that is far larger than the others. Columns whose own means tell
    them apart more than samples do are measurements, not classes.

    Args:
        rows: shape (rows, classes).
    """
    classes = rows.shape[1]
    if classes < _FEWEST_CLASSES or len(rows) < 2:
        return False
    deviation = rows.std(axis=1)
    told = deviation > 0
    if not told.any():
        return False
    tops = (rows.max(axis=1) - rows.mean(axis=1))[told] / deviation[told]
    bottoms = (rows.mean(axis=1) - rows.min(axis=1))[told] / deviation[told]
    between = rows.mean(axis=0).var()
    total = rows.var()
    distinct = len(np.unique(rows.argmax(axis=1)))
    is_outlying = float(tops.mean()) > max(
        _MARGIN * _expected_top(classes), _SKEW * float(bottoms.mean())
    )
    # Of thousands of classes most are hardly ever meant, which tells their columns apart too.
    is_far_out = float(tops.mean()) > _FAR * _expected_top(classes) and distinct >= _FEWEST_CLASSES
    return is_outlying and distinct > 1 and (is_far_out or bool(between < 0.5 * total))


def _expected_top(classes: int) -> float:
    if classes <= max(_EXPECTED_TOP):
        return float(np.interp(classes, list(_EXPECTED_TOP), list(_EXPECTED_TOP.values())))
    root = np.sqrt(2 * np.log(classes))
    return float(root - (np.log(np.log(classes)) + np.log(4 * np.pi)) / (2 * root) + 0.58 / root)


def are_competing(rows: NDArray[np.float64]) -> bool:
    """Whether columns rise at each other's cost and not always the same one wins, as classes do.

    Training by cross entropy pushes the scores of a sample apart and leaves their sum alone; sums
    of measurements vary as much as those of independent columns, or more.

    Args:
        rows: shape (samples, columns).
    """
    if rows.shape[1] < 2 or len(rows) < _FEWEST_CLASSES:
        return False
    apart = rows.var(axis=0).sum()
    distinct = len(np.unique(rows.argmax(axis=1)))
    return bool(rows.sum(axis=1).var() < _COMPETING * apart) and distinct > 1


def are_told_apart(rows: NDArray[np.float64]) -> bool:
    """Whether most columns lie further from each other than samples do, as places in a picture.

    Args:
        rows: shape (samples, columns).
    """
    means, deviations = rows.mean(axis=0), rows.std(axis=0)
    apart = np.abs(means - means.mean())
    return len(rows) > 1 and bool(np.median(apart - _APART * deviations) > 0)


def are_alike(rows: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Whether values spread about as far at each place, as scores of tokens do.

    Args:
        rows: shape (samples times places, values).
        shape: of a sample; where it does not hold the rows, nothing is known against it.
    """
    places = int(np.prod(shape)) // rows.shape[1]
    if not places or len(rows) % places:
        return True
    spreads = rows.std(axis=1).reshape(-1, places).mean(axis=0)
    typical = float(np.median(spreads))
    return bool(spreads.max() <= _UNLIKE * typical) and bool(spreads.min() >= typical / _UNLIKE)


def have_unit_length(rows: NDArray[np.float64]) -> bool:
    """Whether every row has length 1."""
    return bool(np.abs(np.square(rows).sum(axis=1) - 1).max() < _UNIT)


def are_smooth(rows: NDArray[np.float64]) -> bool:
    """Whether neighbouring columns nearly agree in each row, as times of a curve do."""
    if rows.shape[1] < 2 * _FEWEST_CLASSES:
        return False
    centred = rows - rows.mean(axis=1, keepdims=True)
    power = np.square(centred).sum()
    steps = np.square(np.diff(centred, axis=1)).sum() * rows.shape[1] / (rows.shape[1] - 1)
    # The squared step between neighbours is 2 (1 - correlation) times the power.
    return bool(power > 0) and bool(1 - steps / (2 * power) > _SMOOTH)
