"""Are two recordings of one speaker? How often embeddings get it wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.subjects.evaluate import first_output
from benchmarks.subjects.subject import FloatMetric, Samples


def equal_error_rate(embeddings: np.ndarray, speakers: np.ndarray) -> float:
    """The share of pairs judged wrongly where as many of either kind are.

    Every pair of recordings is judged by the cosine between their embeddings, with the threshold at
    which the share of accepted pairs of two speakers equals that of refused pairs of one.

    Args:
        embeddings: float [recordings, features] of length 1. Equal rows are one recording that was
            drawn twice (when samples are resampled), so such a pair does not count.
        speakers: int64 [recordings].

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: all pairs are of one kind.
    """
    _, recording = np.unique(embeddings, axis=0, return_inverse=True)
    first, second = np.triu_indices(len(embeddings), k=1)
    distinct = recording[first] != recording[second]
    first, second = first[distinct], second[distinct]
    same = speakers[first] == speakers[second]
    if same.all() or not same.any():
        raise ValueError("needs pairs of one speaker and pairs of two")
    similarity = (embeddings @ embeddings.T)[first, second]
    same = same[np.argsort(-similarity, kind="stable")]
    accepted = np.cumsum(~same) / np.count_nonzero(~same)
    refused = 1 - np.cumsum(same) / np.count_nonzero(same)
    nearest = np.argmin(np.abs(accepted - refused))
    return float((accepted[nearest] + refused[nearest]) / 2)


def verification_accuracy(outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> float:
    """1 - equal-error rate of the only output, for ``--metric``: higher is better."""
    (embeddings,) = outputs.values()
    return 1 - equal_error_rate(embeddings, labels)


def _of_model(model: Path, samples: Samples) -> float:
    return round(100 * equal_error_rate(first_output(model, samples), samples.labels), 2)


EQUAL_ERROR_RATE = FloatMetric(
    name="equal-error rate",
    unit="%",
    value=_of_model,
    judged_by="benchmarks.subjects.verification:verification_accuracy",
)
