"""Which samples passes fit to, so that what training is judged by stays unseen."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from onnxcompress.data.dataset import Dataset
from onnxcompress.pass_base import TensorType
from onnxcompress.runtime.paired import KEPT_BYTES, LIVE

_SEED = 0


def calibrated_without(calibration: Dataset, training: Dataset, aside: np.ndarray) -> Dataset:
    """The calibration data, where samples of training that are set aside give way to others.

    Args:
        calibration: perhaps a part of the training samples, perhaps others.
        training: all that is trained on.
        aside: numbers of those that judge the training.

    Returns:
        As many samples as there were, as far as training has others; `calibration` itself if
        nothing of it is set aside, or all.
    """
    known = list(calibration.digests())
    all_of_training = list(training.digests())
    unseen = {all_of_training[number] for number in aside}
    kept = [number for number, digest in enumerate(known) if digest not in unseen]
    lost = len(known) - len(kept)
    if not lost or not kept:
        return calibration
    if not set(known) <= set(all_of_training):
        return calibration.take(kept)
    used = set(known)
    numbers = [number for number, digest in enumerate(all_of_training) if digest in used - unseen]
    others = [n for n, digest in enumerate(all_of_training) if digest not in used | unseen]
    return training.take(sorted(numbers + others[:lost]))


def fitted_to(
    calibration: Dataset,
    training: Dataset | None,
    aside: np.ndarray,
    samples: int | None,
    types: Mapping[str, TensorType],
) -> Dataset:
    """More samples than calibrate, where training has them and two models can be run on them often.

    Args:
        calibration: what is taken otherwise.
        training: all that is trained on.
        aside: numbers of those that judge the training.
        samples: at most; None for the calibration data.
        types: of both models' tensors, for one sample.
    """
    if training is None or samples is None:
        return calibration
    largest = max((4 * math.prod(each.shape) for each in types.values()), default=KEPT_BYTES)
    most = min(samples, KEPT_BYTES // max(LIVE * largest, 1))
    free = np.setdiff1d(np.arange(len(training)), aside, assume_unique=True)
    if min(most, len(free)) <= len(calibration):
        return calibration
    chosen = training.take(free)
    return chosen.split(most, _SEED)[0] if most < len(chosen) else chosen
