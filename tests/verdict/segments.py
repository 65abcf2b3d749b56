"""Segmenters: a class at each pixel."""

from __future__ import annotations

import numpy as np

from tests.verdict.support import Case, Outputs, Quality, stacked


def mean_intersection(original: np.ndarray, candidate: np.ndarray) -> float:
    """What the areas of a class share of what both cover, the mean over the original's classes."""
    shares = [
        np.sum((original == each) & (candidate == each))
        / np.sum((original == each) | (candidate == each))
        for each in np.unique(original)
    ]
    return float(np.mean(shares))


def quality_of(name: str) -> Quality:
    """Intersection over union of the classes with the highest scores, channels first."""

    def quality(original: Outputs, candidate: Outputs) -> float:
        return mean_intersection(
            *(stacked(each, name).argmax(axis=1) for each in (original, candidate))
        )

    return quality


CASES = {"cloud-mask": Case(kinds={"output": "map"}, quality=quality_of("output"))}
