"""How well the boxes that are found again fit: overlap and score, beside the original's.

F1 counts a box as found from an overlap of a half on, whatever its score, so it does not see boxes
that all lie a little to the side, or scores that are half as high. This does, and looks at nothing
else: boxes that are missing are F1's.
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


def fit_tally(output: Sequence[Boxes], reference: Sequence[Boxes]) -> RowTally:
    """Overlap that is lacking, difference of scores, pairs; (samples, 3).

    Args:
        output: the candidate's detections, see `detection.detection_tally`.
        reference: the original's, alike.

    Raises:
        DataError: they have another shape, or there are not as many of both.
    """
    check_counts(output, reference)
    rows = np.zeros((len(output), 3))
    for row, ours, theirs in zip(rows, output, reference, strict=True):
        left, right = confirming(ours), confirming(theirs)
        taker, taken = matched(left, right)
        left, right = left[taker], right[taken]
        if len(left):
            near = overlaps(left[:, :4], right[:, :4]).diagonal()
            row[:] = (1 - near).sum(), np.abs(left[:, 4] - right[:, 4]).sum(), len(left)
    return RowTally(rows)


def fit(sums: Sums) -> NDArray[np.float64]:
    """1 less the mean of what is lacking: of overlap or of score, whichever is more."""
    lacking = [ratio(sums[..., part], sums[..., 2], 0.0) for part in (0, 1)]
    return 1 - np.maximum(*lacking)


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
