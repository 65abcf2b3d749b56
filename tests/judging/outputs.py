"""What models of many kinds say, as arrays of samples, made up to look as in earnest."""

from __future__ import annotations

from typing import Final

import numpy as np

Rng = np.random.Generator
SAMPLES: Final = 120


def softmax(values: np.ndarray, axis: int = -1) -> np.ndarray:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray((powers / powers.sum(axis=axis, keepdims=True)).astype(np.float32))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray((1 / (1 + np.exp(-values))).astype(np.float32))


def logits(rng: Rng, classes: int, samples: int = SAMPLES) -> np.ndarray:
    """Of a classifier that is mostly sure: an error away from certain, as int8 finds them."""
    values = rng.normal(0, 1.5, (samples, classes))
    values[np.arange(samples), rng.integers(0, classes, samples)] += 8
    return values.astype(np.float32)


def unsure_logits(rng: Rng, classes: int) -> np.ndarray:
    return rng.normal(0, 2, (SAMPLES, classes)).astype(np.float32)


def labels_at_once(rng: Rng, classes: int) -> np.ndarray:
    return sigmoid(rng.normal(-2, 3, (SAMPLES, classes)))


def landmarks(rng: Rng, points: int = 68) -> np.ndarray:
    """Points of a face that is turned and moved."""
    shape = rng.uniform(20, 200, (points, 2))
    scale = rng.normal(1, 0.08, (SAMPLES, 1, 1))
    moved = (
        shape * scale + rng.normal(0, 8, (SAMPLES, 1, 2)) + rng.normal(0, 2, (SAMPLES, points, 2))
    )
    return moved.reshape(SAMPLES, -1).astype(np.float32)


def embedding(rng: Rng, size: int, *, unit: bool = False, positive: bool = False) -> np.ndarray:
    centres = rng.standard_normal((12, size))
    vectors = rng.standard_normal(size) + centres[rng.integers(0, 12, SAMPLES)]
    vectors += 0.7 * rng.standard_normal((SAMPLES, size))
    if positive:
        vectors = np.maximum(vectors, 0)
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def curve(rng: Rng, length: int = 200) -> np.ndarray:
    times = np.linspace(0, 1, length)
    waves = [
        rng.normal(0, 1, (SAMPLES, 1))
        * np.sin(2 * np.pi * (rate * times + rng.random((SAMPLES, 1))))
        for rate in (1, 2, 3, 5)
    ]
    return np.asarray(np.sum(waves, axis=0).astype(np.float32))


def voiced(rng: Rng, length: int = 120) -> np.ndarray:
    """The chance of speech at each time: long stretches of near 0 and near 1."""
    steps = np.repeat(rng.random((SAMPLES, length // 10)) < 0.5, 10, axis=1)
    return sigmoid(10 * (steps - 0.5) + rng.standard_normal((SAMPLES, length)))


def forecast(rng: Rng, steps: int = 24) -> np.ndarray:
    level = rng.normal(50, 20, (SAMPLES, 1))
    return np.asarray(
        (level + 5 * np.sin(np.arange(steps) / 4) + rng.normal(0, 2, (SAMPLES, steps))).astype(
            np.float32
        )
    )


def depth(rng: Rng, side: int = 24) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] / side
    tilt = rng.normal(0, 1, (3, SAMPLES, 1, 1))
    return np.asarray(
        (5 + tilt[0] + tilt[1] * rows + tilt[2] * columns).astype(np.float32)[:, None]
    )


def spectrogram_mask(rng: Rng, bands: int = 33, frames: int = 20) -> np.ndarray:
    loud = rng.normal(0, 2, (SAMPLES, bands, 1)) + rng.normal(0, 2, (SAMPLES, 1, frames))
    return sigmoid(loud)


def hidden_states(rng: Rng, tokens: int = 12, size: int = 96) -> np.ndarray:
    """Of a transformer: one column in a hundred is far larger than the others."""
    values = rng.standard_normal((SAMPLES, tokens, size))
    values[..., 7] *= 10
    return values.astype(np.float32)


def segments(rng: Rng, classes: int = 5, side: int = 24) -> np.ndarray:
    """Logits; the last class covers half a per cent of the picture."""
    chosen = rng.integers(0, classes - 1, (SAMPLES, side // 4, side // 4))
    chosen = chosen.repeat(4, axis=1).repeat(4, axis=2)
    for picture in chosen[::2]:
        row, column = rng.integers(0, side - 2, 2)
        picture[row : row + 2, column : column + 3] = classes - 1
    scores = 6 * np.eye(classes)[chosen].transpose(0, 3, 1, 2)
    return (scores + rng.normal(0, 0.8, scores.shape)).astype(np.float32)


def recognizer(rng: Rng, frames: int = 40, characters: int = 30, blank: int = 0) -> np.ndarray:
    """Logits (samples, frames, characters) of lines of text, most frames blank."""
    values = rng.normal(0, 1, (SAMPLES, frames, characters))
    chosen = rng.integers(1, characters - 1, (SAMPLES, frames))
    chosen[rng.random((SAMPLES, frames)) < 0.7] = blank
    best = np.take_along_axis(values, chosen[..., None], axis=-1) * 0 + rng.uniform(
        4, 10, (SAMPLES, frames, 1)
    )
    np.put_along_axis(values, chosen[..., None], best, axis=-1)
    return values.astype(np.float32)


def tokens(rng: Rng, places: int = 16, vocabulary: int = 200) -> np.ndarray:
    """Logits of a language model."""
    values = rng.normal(0, 2, (SAMPLES, places, vocabulary))
    chosen = rng.integers(0, vocabulary, (SAMPLES, places, 1))
    np.put_along_axis(values, chosen, rng.uniform(8, 16, chosen.shape), axis=-1)
    return values.astype(np.float32)
