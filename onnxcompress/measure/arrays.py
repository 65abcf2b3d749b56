"""Outputs and labels as plain arrays of the kind that a metric counts with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxcompress.data.casting import Kind, is_float, kind_of
from onnxcompress.errors import DataError


def check_counts(
    outputs: Sequence[object] | np.ndarray, target: Sequence[object] | np.ndarray
) -> None:
    """Checks that there is something to compare each sample with.

    Raises:
        DataError: there is not.
    """
    if len(outputs) != len(target):
        raise DataError(
            f"there are outputs for {len(outputs)} samples and {len(target)} to compare with; "
            f"give as many labels as samples"
        )


def whole_numbers(array: np.ndarray, what: str) -> NDArray[np.int64]:
    """Integers or booleans as int64, shape kept.

    Raises:
        DataError: it holds something else; the message starts with `what`.
    """
    if kind_of(array.dtype) not in (Kind.INTEGER, Kind.BOOL):
        raise DataError(
            f"{what} are {array.dtype}, whole numbers are needed; store them as x.astype(np.int64)"
        )
    return array.astype(np.int64)


def real_numbers(array: np.ndarray, what: str) -> NDArray[np.float64]:
    """Floats, integers or booleans as float64, shape kept.

    Raises:
        DataError: it holds something else; the message starts with `what`.
    """
    if not is_float(array.dtype) and kind_of(array.dtype) not in (Kind.INTEGER, Kind.BOOL):
        raise DataError(f"{what} are {array.dtype}, numbers are needed; choose another output")
    return array.astype(np.float64)


def vectors_of(output: np.ndarray | Sequence[np.ndarray], what: str) -> NDArray[np.float64]:
    """One row of numbers for each sample, shape (samples, elements).

    Raises:
        DataError: samples differ in shape, or hold no numbers.
    """
    if not isinstance(output, np.ndarray):
        shapes = {np.shape(array) for array in output}
        if len(shapes) > 1:
            raise DataError(
                f"{what} differ in shape from sample to sample ({_some(shapes)}); vectors of one "
                f"length are needed, choose another output or metric"
            )
        output = np.stack(output) if len(output) else np.empty((0, 1))
    if not output.ndim:
        raise DataError(f"{what} have no axis of samples; choose another output or metric")
    elements = int(np.prod(output.shape[1:]))
    return real_numbers(output, what).reshape(len(output), elements)


def _some(shapes: set[tuple[int, ...]]) -> str:
    return ", ".join(str(shape) for shape in sorted(shapes)[:3])
