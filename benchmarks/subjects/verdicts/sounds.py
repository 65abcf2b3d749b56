"""Telephone prompts with noise, clipped or muffled: speech that is good, bad and in between."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.subjects import telephone_prompts

RATE = telephone_prompts.RATE
ENGLISH, _, ITALIAN, RUSSIAN = telephone_prompts.PACKAGES

_BEGIN, _END = RATE // 10, RATE // 10
_LOUD = 0.9


def prompts(package: Path, count: int, seconds: tuple[float, float]) -> list[np.ndarray]:
    """The first recordings of a package that last as long as one of the lengths between."""
    least, most = (int(RATE * each) for each in seconds)
    fitting = (each for each in telephone_prompts.read(package) if least <= len(each) <= most)
    return list(islice(fitting, count))


def stretch(recordings: list[np.ndarray], samples: int, random: np.random.Generator) -> np.ndarray:
    """Recordings drawn one after another until there are enough samples; float32."""
    parts: list[np.ndarray] = []
    while sum(len(part) for part in parts) < samples:
        parts.append(recordings[random.integers(len(recordings))])
        parts.append(np.zeros(int(random.integers(_BEGIN + _END)), dtype=np.float32))
    return np.concatenate(parts)[:samples]


def damaged(speech: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Speech with white or brown noise, 0 to 40 dB below it, at times clipped or muffled first.

    Args:
        speech: float32 within -1 and 1.
        random: draws the damage.
    """
    sound = speech.astype(np.float64)
    if random.random() < 0.3:
        limit = float(np.quantile(np.abs(sound), random.uniform(0.8, 0.99)))
        sound = np.clip(sound, -limit, limit)
    if random.random() < 0.3:
        width = int(random.integers(3, 12))
        sound = np.convolve(sound, np.ones(width) / width, mode="same")
    noise = random.standard_normal(len(sound))
    if random.random() < 0.5:
        noise = _brown(noise)
    decibels = random.uniform(0, 40)
    loudness = np.sqrt(np.mean(np.square(sound)) / np.mean(np.square(noise)))
    sound = sound + noise * loudness * 10 ** (-decibels / 20)
    most = float(np.abs(sound).max())
    scaled: np.ndarray = sound * min(1.0, _LOUD / most)
    return scaled.astype(np.float32)


def _brown(noise: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(noise)
    spectrum[1:] /= np.arange(1, len(spectrum))
    spectrum[0] = 0
    brown: np.ndarray = np.fft.irfft(spectrum, len(noise))
    return brown
