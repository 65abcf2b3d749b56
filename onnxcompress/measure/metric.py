"""What a metric is: what it compares, what it counts, what a drop means."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcompress.measure.tally import Sums, Tally


class Target(enum.Enum):
    """What a model's outputs are compared with."""

    LABELS = "labels"
    REFERENCE = "the reference's outputs"


class Form(enum.Enum):
    """What a metric compares; outputs are read into it first, see `judging.readings`."""

    VALUES = "values as they are, an axis of classes last"
    CLASSES = "the class chosen at each place"
    CHANNELS = "numbers, by what they measure"
    VECTORS = "one vector a sample"
    SEQUENCES = "tokens or characters of each sample"
    DETECTIONS = "boxes with scores and classes of each sample"
    ROWS = "anything, equal or not"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to judge outputs.

    Attributes:
        name: as a user writes it.
        title: what it says, in a few words.
        target: what outputs are compared with.
        tally: counts for each sample, from outputs and target.
        value: the metric, from sums of counts; one for each resample.
        drop: what is lost, from the candidate's sums and the reference's; one for each resample.
        worst: the value of outputs that cannot be judged (NaN, another shape).
        form: what it compares.
        counts_answers: its tally is right answers and answers, so that samples of one answer have
            exact bounds.
        drop_is_relative: a drop is a share of the original's value.
        most: the largest drop that a single sample can bring; None if there is no limit.
        compares_values: an infinity is an error, where others only look which score is highest.
        without_labels: what stands in for it where there are no labels.
    """

    name: str
    title: str
    target: Target
    tally: Callable[[Any, Any], Tally]
    value: Callable[[Sums], np.ndarray]
    drop: Callable[[Sums, Sums], np.ndarray]
    worst: float
    form: Form = Form.VALUES
    counts_answers: bool = False
    drop_is_relative: bool = False
    most: float | None = None
    compares_values: bool = False
    without_labels: Metric | None = None


OwnMetric = Callable[[dict[str, Any], Any], float]
"""Takes outputs by name and the labels (None without any), gives a number; higher is better."""


@dataclass(frozen=True, kw_only=True)
class CustomMetric:
    """A function of the user's own.

    Attributes:
        name: `module:function`.
        function: see `OwnMetric`.
    """

    name: str
    function: OwnMetric
