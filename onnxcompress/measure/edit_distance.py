"""Character and word error rates: edits that turn an output into its truth, by the truth's length.

Edits are insertions, deletions and substitutions (V. Levenshtein, 1966), summed over all samples
before they are divided, as speech recognition counts them (NIST's sclite).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.arrays import check_counts, whole_numbers
from onnxcompress.measure.rates import error_rate, ratio
from onnxcompress.measure.tally import RowTally, Sums

Item = np.ndarray | str


def edit_tally(
    output: Sequence[Item] | np.ndarray,
    target: Sequence[Item] | np.ndarray,
    split: Callable[[str], Sequence[str]],
) -> RowTally:
    """Edits between both, and the target's length; (samples, 2).

    Args:
        output: texts, or arrays of token ids; ids below 0 are padding and do not count.
        target: the labels or the original's outputs, alike; may be an array with samples as first
            axis.
        split: cuts a text into what is counted.

    Raises:
        DataError: one is text and the other ids, or one is neither; rapidfuzz is missing.
    """
    check_counts(output, target)
    distance = _levenshtein()
    rows = np.empty((len(output), 2))
    for row, ours, wanted in zip(rows, output, target, strict=True):
        left, right = _parts(ours, split), _parts(wanted, split)
        if len(left) and len(right) and isinstance(left[0], str) != isinstance(right[0], str):
            raise DataError(
                "one of output and labels is text and the other token ids; store the labels as the "
                "model writes them"
            )
        row[:] = distance(left, right), len(right)
    return RowTally(rows)


# Strings by characters, whatever their case; by words between white space.
cer_tally: Final = partial(edit_tally, split=list)
wer_tally: Final = partial(edit_tally, split=str.split)
edit_value: Final = error_rate


def edit_drop(candidate: Sums, reference: Sums) -> NDArray[np.float64]:
    """The candidate's rate minus the reference's, (resamples, 2) twice -> (resamples,).

    Both were compared with the same target. Not the difference of two rates, which may both be
    infinite where a resample's targets are all empty.
    """
    more = candidate[..., 0] - reference[..., 0]
    return ratio(more, reference[..., 1], np.where(more > 0, np.inf, 0.0))


def _parts(item: Any, split: Callable[[str], Sequence[str]]) -> Sequence[Any]:
    """What is counted: parts of a text, or ids that are no padding."""
    array = np.asarray(item)
    if array.dtype.kind in "OUTS" and array.size == 1:
        text = array.reshape(-1)[0]
        return split(text.decode("utf-8") if isinstance(text, bytes) else str(text))
    if array.size == 0:
        return []
    ids = whole_numbers(array, "token ids").reshape(-1)
    found: list[int] = ids[ids >= 0].tolist()
    return found


def _levenshtein() -> Callable[[Sequence[Any], Sequence[Any]], int]:
    try:
        from rapidfuzz.distance import Levenshtein
    except ModuleNotFoundError as missing:
        raise DataError("edit distances need rapidfuzz; pip install rapidfuzz") from missing
    return Levenshtein.distance
