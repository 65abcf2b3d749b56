"""A speaker encoder: three LSTMs over a mel spectrogram, one embedding of length 1 for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects import telephone_prompts
from benchmarks.subjects.archive import Package
from benchmarks.subjects.export import export
from benchmarks.subjects.subject import Samples, Sources, Split, Subject
from benchmarks.subjects.verification import EQUAL_ERROR_RATE

if TYPE_CHECKING:
    import torch

_WEIGHTS = Package(
    name="resemblyzer",
    version="0.1.4",
    sha256="8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
)
_WEIGHTS_FILE = "resemblyzer/pretrained.pt"
_HIDDEN = 256
_LSTMS = 3
_MELS = 40
_FRAMES = 160
_WINDOW = telephone_prompts.RATE * 25 // 1000
_STEP = telephone_prompts.RATE * 10 // 1000
_LOUDNESS = 10 ** (-30 / 20)

# Frames this far below the loudest, with none louder within a tenth of a second, are a pause.
_QUIET = 1e-3
_NEIGHBOURS = 21

# Every fourth recording of each speaker calibrates.
_CALIBRATION_STEP = 4


def _module(weights: Path) -> torch.nn.Module:
    import torch

    class Encoder(torch.nn.Module):
        """float32 (batch, frames, mels) -> (batch, features) of length 1."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(_MELS, _HIDDEN, _LSTMS, batch_first=True)
            self.linear = torch.nn.Linear(_HIDDEN, _HIDDEN)

        def forward(self, mels: torch.Tensor) -> torch.Tensor:
            _, (states, _) = self.lstm(mels)
            return torch.nn.functional.normalize(torch.relu(self.linear(states[-1])), dim=1)

    encoder = Encoder()
    stored = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
    # The rest belongs to the loss it was trained with.
    encoder.load_state_dict({name: stored[name] for name in encoder.state_dict()})
    return encoder.eval()


def windows(recording: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """The mel spectrograms of a recording without its pauses, cut into whole windows.

    Args:
        recording: float32 [samples], 16 kHz.
        filters: [frequencies, mels].

    Returns:
        float32 [windows, frames, mels], power; 1.6 s each. Quiet recordings are made louder first.
    """
    from scipy.fft import rfft
    from scipy.ndimage import maximum_filter1d
    from scipy.signal.windows import hann

    loudness = float(np.sqrt(np.mean(np.square(recording), dtype=np.float64)))
    scaled = recording * np.float32(max(1.0, _LOUDNESS / loudness))
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(scaled, _WINDOW // 2), _WINDOW)
    spectrum = rfft(frames[::_STEP] * hann(_WINDOW, sym=False).astype(np.float32))
    mels: np.ndarray = np.square(np.abs(spectrum)) @ filters.astype(np.float32)
    power = mels.sum(axis=1)
    loudest = maximum_filter1d(power, _NEIGHBOURS, mode="nearest")
    voiced: np.ndarray = mels[loudest >= _QUIET * power.max()]
    whole = len(voiced) // _FRAMES
    return voiced[: whole * _FRAMES].reshape(whole, _FRAMES, _MELS)


def _data(sources: Sources) -> Iterator[tuple[bool, int, np.ndarray]]:
    """Whether it calibrates, the speaker, and the windows of each recording."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=_WINDOW // 2 + 1,
        num_mel_filters=_MELS,
        min_frequency=0.0,
        max_frequency=telephone_prompts.RATE / 2,
        sampling_rate=telephone_prompts.RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    for speaker, package in enumerate(telephone_prompts.PACKAGES):
        recordings = telephone_prompts.read(sources.packages[package.name])
        for index, recording in enumerate(recordings):
            if len(recording) >= _FRAMES * _STEP:
                yield index % _CALIBRATION_STEP == 0, speaker, windows(recording, filters)


def _samples(parts: list[tuple[int, np.ndarray]]) -> Samples:
    labels = [np.full(len(mels), speaker, dtype=np.int64) for speaker, mels in parts]
    mels = np.concatenate([mels for _, mels in parts])
    return Samples(inputs={"mels": mels}, labels=np.concatenate(labels))


def _build(sources: Sources, folder: Path) -> Split:
    import torch

    found = list(_data(sources))
    test = _samples([(speaker, mels) for calibrates, speaker, mels in found if not calibrates])
    probe = torch.from_numpy(test.inputs["mels"])
    export(
        _module(sources.packages[_WEIGHTS.name] / _WEIGHTS_FILE),
        {"mels": torch.zeros(1, _FRAMES, _MELS)},
        [{"mels": probe[:3, : _FRAMES // 2]}],
        folder / "model.onnx",
        dynamic_axes={"mels": {0: "batch", 1: "frames"}, "embedding": {0: "batch"}},
        outputs=["embedding"],
    )
    return Split(
        calibration=_samples([(speaker, mels) for first, speaker, mels in found if first]),
        test=test,
    )


SUBJECT = Subject(
    name="speaker-encoder",
    summary="three LSTMs that embed a speaker's voice, telephone prompts, raw export",
    licenses="encoder Apache-2.0; prompts CC BY-SA 3.0 and CC BY 3.0, read, not shipped",
    inputs={
        "mels": "power in 40 mel bands (Slaney) of 0-8 kHz, windows of 25 ms every 10 ms, float32 "
        "[160, 40]; pauses cut out, recordings below -30 dBFS raised to it"
    },
    metric=EQUAL_ERROR_RATE,
    build=_build,
    packages=(_WEIGHTS, *telephone_prompts.PACKAGES),
    libraries=("G722", "numpy", "onnx", "onnxruntime", "scipy", "torch", "transformers"),
)
