"""How well the boxes that are found again fit: overlap and score, beside the original's.

F1 counts a box as found from an overlap of a half on, whatever its score, so it does not see boxes
that all lie a little to the side, or scores that are half as high. This does, and looks at nothing
else: boxes that are missing are F1's.

Scores that differ now up, now down, are noise of which whoever sets a threshold sees little. Scores
that are all lower by as much are boxes that go missing wherever the threshold lies, so what they
share counts more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.measure.arrays import check_counts
from onnxcompress.measure.detection import Boxes, confirming, matched, overlaps
from onnxcompress.measure.metric import Form, Metric, Target
from onnxcompress.measure.rates import lost, ratio
from onnxcompress.measure.tally import RowTally, Sums

_SHIFT: Final = 4.0
"""A difference that all scores share counts so many times."""


def fit_tally(output: Sequence[Boxes], reference: Sequence[Boxes]) -> RowTally:
    """Lacking overlap; differences of scores, their sizes and their squares; pairs: (samples, 5).

    Args:
        output: the candidate's detections, see `detection.detection_tally`.
        reference: the original's, alike.

    Raises:
        DataError: they have another shape, or there are not as many of both.
    """
    check_counts(output, reference)
    rows = np.zeros((len(output), 5))
    for row, ours, theirs in zip(rows, output, reference, strict=True):
        left, right = confirming(ours), confirming(theirs)
        taker, taken = matched(left, right)
        left, right = left[taker], right[taken]
        if len(left):
            near = overlaps(left[:, :4], right[:, :4]).diagonal()
            apart = left[:, 4] - right[:, 4]
            row[:] = (
                (1 - near).sum(),
                apart.sum(),
                np.abs(apart).sum(),
                np.square(apart).sum(),
                len(left),
            )
    return RowTally(rows)


def fit(sums: Sums) -> NDArray[np.float64]:
    """1 less the mean of what is lacking: of overlap or of score, whichever is more.

    What scores share is their mean difference, less the standard error that noise of their size has
    around none.
    """
    pairs = sums[..., 4]
    overlap, shared, apart, square = (ratio(sums[..., part], pairs, 0.0) for part in range(4))
    shift = np.maximum(np.abs(shared) - np.sqrt(ratio(square, pairs, 0.0)), 0)
    lacking: NDArray[np.float64] = np.maximum.reduce([overlap, apart, _SHIFT * shift])
    return 1 - np.minimum(lacking, 1)


def score_shift(sums: Sums) -> NDArray[np.float64]:
    """How much higher scores are on average than the original's."""
    return ratio(sums[..., 1], sums[..., 4], 0.0)


DETECTION_FIT: Final = Metric(
    name="detection-fit",
    title="overlap and score of the boxes that are found, the worse of both",
    target=Target.REFERENCE,
    tally=fit_tally,
    value=fit,
    drop=lost(fit),
    worst=0.0,
    form=Form.DETECTIONS,
    most=1.0,
)
