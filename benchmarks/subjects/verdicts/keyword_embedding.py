"""A spoken word as a vector: ResNet-50 on mel bands, 2048 features of length 1."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import sounds

_MODEL = Package(
    name="efficientword-net",
    version="1.0.5",
    sha256="9094b1ac4f4d4ccb54069b15e87639e38f3c06443be383acccedc5c26055aa58",
)
_FILE = "eff_word_net/models/resnet_50_arc/slim_93%_accuracy_72.7390%.onnx"
_LENGTH = sounds.RATE * 3 // 2
_WINDOW = sounds.RATE * 25 // 1000
_STEP = sounds.RATE // 100
_FFT = 512
_BANDS = 64
_WORDS = 24
_TIMES = 3
_SEED = 0


def _filters() -> np.ndarray:
    """[frequencies, bands]: triangles on the mel scale between bins of the transform."""
    top = 2595 * np.log10(1 + sounds.RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    edges = np.floor((_FFT + 1) * hertz / sounds.RATE).astype(int)
    filters = np.zeros((_FFT // 2 + 1, _BANDS))
    for band in range(_BANDS):
        left, middle, right = edges[band : band + 3]
        filters[left:middle, band] = (np.arange(left, middle) - left) / max(1, middle - left)
        filters[middle:right, band] = (right - np.arange(middle, right)) / max(1, right - middle)
    return filters


def _bands(sound: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """float32 [149, 64], the logarithms of the power in each band, as the package has them."""
    missing = -(len(sound) - _WINDOW) % _STEP
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, (0, missing)), _WINDOW)
    power = np.square(np.abs(np.fft.rfft(frames[::_STEP], _FFT))) / _FFT
    bands = power @ filters
    found: np.ndarray = np.log(np.where(bands == 0, np.finfo(float).eps, bands))
    return found.astype(np.float32)


def _placed(word: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A word somewhere within 1.5 s of faint noise."""
    sound = random.normal(0, 1e-4, _LENGTH)
    start = int(random.integers(_LENGTH - len(word), endpoint=True))
    sound[start : start + len(word)] += word * random.uniform(0.5, 1.0)
    return sound


def _build(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    words = sounds.prompts(sources.packages[sounds.ENGLISH.name], _WORDS, (0.4, 1.4))
    random = np.random.default_rng(_SEED)
    filters = _filters()
    bands = [_bands(_placed(word, random), filters) for word in words for _ in range(_TIMES)]
    return {"input": np.stack(bands)[:, None]}


SUBJECT = Unlabelled(
    name="keyword-embedding",
    summary="embedding of a spoken word, shape [samples, 2048], each word three times",
    licenses="model Apache-2.0; prompts CC BY-SA 3.0, read, not shipped",
    inputs={"input": "logarithm of the power in 64 mel bands, float32 [1, 149, 64]"},
    build=_build,
    packages=(_MODEL, sounds.ENGLISH),
    libraries=("G722", "numpy", "onnx", "onnxruntime"),
)
