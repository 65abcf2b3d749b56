"""A wake word's score, the features it is made of, and a detector of speech with a state."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.subjects.archive import Package
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import sounds

_MODEL = Package(
    name="openwakeword",
    version="0.5.1",
    sha256="015467e49f08b0ef8efa433690ce70566abb72f7c36501a6fa893762b4ddc559",
)
_FOLDER = "openwakeword/resources/models"
_INT16 = 32_767
_WORD = "hey_rhasspy_v0.1"
_FRAMES = 16
_WINDOW = 76
_STEP = 8
_RECORDINGS = 16
_PAUSES = (20_000, 12_000)
_WINDOWS = 200
_CLIP = 32_000
_CLIPS = 30
_VOICE_FRAME = 480
_VOICE_FRAMES = 240
_STATE = (2, 1, 64)
_SEED = 0


class _Features:
    """What the package computes from sound, by the models it has for that."""

    def __init__(self, folder: Path) -> None:
        self._mels = ort.InferenceSession(str(folder / "melspectrogram.onnx"))
        self._embedding = ort.InferenceSession(str(folder / "embedding_model.onnx"))

    def windows(self, clip: np.ndarray) -> np.ndarray:
        """float32 [windows, 76, 32, 1]: mel frames of float32 sound within -1 and 1."""
        sound = np.rint(clip * _INT16).astype(np.float32)[None]
        mels = self._mels.run(None, {"input": sound})[0][0, 0] / 10 + 2
        starts = range(0, len(mels) - _WINDOW + 1, _STEP)
        return np.stack([mels[start : start + _WINDOW] for start in starts])[..., None]

    def embeddings(self, clip: np.ndarray) -> np.ndarray:
        """float32 [windows, 96]."""
        found: np.ndarray = self._embedding.run(None, {"input_1": self.windows(clip)})[0]
        return found.reshape(len(found), -1)


def _copy(sources: Sources, name: str, folder: Path) -> Path:
    models = sources.packages[_MODEL.name] / _FOLDER
    shutil.copyfile(models / f"{name}.onnx", folder / "model.onnx")
    return models


def _build_word(sources: Sources, folder: Path) -> Arrays:
    features = _Features(_copy(sources, _WORD, folder))
    recordings = sounds.prompts(sources.packages[sounds.ENGLISH.name], _RECORDINGS, (0.6, 2.5))
    windows = []
    for recording in recordings:
        embeddings = features.embeddings(np.pad(recording, _PAUSES))
        slid = np.lib.stride_tricks.sliding_window_view(embeddings, _FRAMES, axis=0)
        windows.append(slid[::2].transpose(0, 2, 1))
    return {"onnx::Flatten_0": np.concatenate(windows)[:_WINDOWS]}


def _build_features(sources: Sources, folder: Path) -> Arrays:
    features = _Features(_copy(sources, "embedding_model", folder))
    random = np.random.default_rng(_SEED)
    speech = [
        recording
        for package in (sounds.ENGLISH, sounds.ITALIAN)
        for recording in sounds.prompts(sources.packages[package.name], 60, (0.8, 6.0))
    ]
    clips = [sounds.damaged(sounds.stretch(speech, _CLIP, random), random) for _ in range(_CLIPS)]
    return {"input_1": np.concatenate([features.windows(clip)[::4] for clip in clips])}


def _build_voice(sources: Sources, folder: Path) -> list[Arrays]:
    """Frames of one recording in their order, each with the states that the one before left."""
    _copy(sources, "silero_vad", folder)
    random = np.random.default_rng(_SEED)
    speech = sounds.prompts(sources.packages[sounds.ENGLISH.name], 8, (0.5, 1.5))
    pause = np.zeros(sounds.RATE, dtype=np.float32)
    whole = np.concatenate([part for each in speech for part in (each, pause)])
    noisy = sounds.damaged(whole[: _VOICE_FRAME * _VOICE_FRAMES], random)
    session = ort.InferenceSession(str(folder / "model.onnx"))
    hidden = cell = np.zeros(_STATE, dtype=np.float32)
    runs: list[Arrays] = []
    for frame in noisy.reshape(-1, 1, _VOICE_FRAME):
        rate = np.array(sounds.RATE, dtype=np.int64)
        runs.append({"input": frame, "sr": rate, "h": hidden, "c": cell})
        _, hidden, cell = session.run(None, dict(runs[-1]))
    return runs


_LICENSES = "models Apache-2.0 and MIT; prompts CC BY-SA 3.0 and CC BY 3.0, read, not shipped"
_LIBRARIES = ("G722", "numpy", "onnx", "onnxruntime")

WORD = Unlabelled(
    name="wake-word",
    summary="one score between 0 and 1, near 0 as nobody says the word",
    licenses=_LICENSES,
    inputs={"onnx::Flatten_0": f"the package's features of {_FRAMES} windows, float32 [16, 96]"},
    build=_build_word,
    packages=(_MODEL, sounds.ENGLISH),
    libraries=_LIBRARIES,
)

FEATURES = Unlabelled(
    name="speech-features",
    summary="embedding of a window of speech, shape [samples, 1, 1, 96]",
    licenses=_LICENSES,
    inputs={"input_1": "the package's mel frames, float32 [76, 32, 1]"},
    build=_build_features,
    packages=(_MODEL, sounds.ENGLISH, sounds.ITALIAN),
    libraries=_LIBRARIES,
)

VOICE = Unlabelled(
    name="silero-vad",
    summary="probability of speech, with two states in and out, LSTM inside If",
    licenses=_LICENSES,
    inputs={
        "input": f"sound at 16 kHz, float32 within -1 and 1, [1, {_VOICE_FRAME}]",
        "sr": "16000",
        "h": "state after the frame before",
        "c": "state after the frame before",
    },
    build=_build_voice,
    packages=(_MODEL, sounds.ENGLISH),
    libraries=_LIBRARIES,
)
