"""Scales that give the two weights around a tensor the same range in each of its channels.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019, section 4.1: where f(s x) = s f(x), W2 f(W1 x + b) = (W2 S) f(S^-1 W1 x + S^-1 b).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Weights:
    """The weight of one node, seen by its channels.

    Attributes:
        magnitude: float64 [outputs, inputs], the largest magnitude between two channels: what is
            left of a weight once its kernel is reduced. A grouped convolution has the inputs of
            one group only.
        groups: of a convolution, else 1.
    """

    magnitude: np.ndarray
    groups: int

    def scaled(self, outputs: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """float64 [outputs, inputs]: magnitudes once channels are multiplied by these factors.

        Args:
            outputs: float64, one for each output channel.
            inputs: float64, one for each input channel of the node, all groups.
        """
        rows = np.repeat(inputs.reshape(self.groups, -1), len(outputs) // self.groups, axis=0)
        scaled: np.ndarray = self.magnitude * outputs[:, None] * rows
        return scaled


@dataclass(frozen=True)
class Link:
    """A tensor to equalize.

    Attributes:
        first: index of the weight that writes it; `second` of the one that reads it.
        channels: of the tensor.
    """

    first: int
    second: int
    channels: int


def equalizing_scales(
    weights: Sequence[Weights], links: Sequence[Link], *, rounds: int, tolerance: float
) -> list[np.ndarray]:
    """How to divide each tensor, channel by channel, so that both ranges of each channel agree.

    s_i = sqrt(range1_i / range2_i), link after link until none changes its tensor further: a weight
    in the middle of a chain belongs to two links. A channel without range on one side stays.

    Args:
        weights: of all the nodes.
        links: between them; a weight is the first of one link at most, and the second of one.
        rounds: most times through all links.
        tolerance: a round that changes no scale by a larger share is the last.

    Returns:
        For each link float64 [channels]: what the first weight's outputs are to be divided by and
        the second weight's inputs multiplied with.
    """
    scales = [np.ones(link.channels) for link in links]
    before = {link.second: index for index, link in enumerate(links)}
    after = {link.first: index for index, link in enumerate(links)}

    def current(index: int) -> np.ndarray:
        outputs, inputs = weights[index].magnitude.shape
        divisors = scales[after[index]] if index in after else np.ones(outputs)
        features = inputs * weights[index].groups
        factors = scales[before[index]] if index in before else np.ones(features)
        repeated = np.repeat(factors, features // len(factors))  # Flatten: several a channel
        return weights[index].scaled(1 / divisors, repeated)

    for _ in range(rounds):
        largest = 0.0
        for index, link in enumerate(links):
            outgoing = current(link.first).max(axis=1, initial=0.0)
            incoming = _by_input(current(link.second), weights[link.second].groups, link.channels)
            live = (outgoing > 0) & (incoming > 0)
            step = np.sqrt(np.where(live, outgoing, 1.0) / np.where(live, incoming, 1.0))
            scales[index] = scales[index] * step
            largest = max(largest, float(np.abs(step - 1).max(initial=0.0)))
        if largest <= tolerance:
            break
    return scales


def _by_input(magnitude: np.ndarray, groups: int, channels: int) -> np.ndarray:
    """The largest magnitude of each input channel; of several features a channel, of all."""
    by_group = magnitude.reshape(groups, -1, magnitude.shape[1]).max(axis=1, initial=0.0)
    largest: np.ndarray = by_group.reshape(channels, -1).max(axis=1, initial=0.0)
    return largest
