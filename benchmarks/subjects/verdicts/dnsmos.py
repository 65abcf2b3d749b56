"""How good a recording sounds: three opinion scores (speech, background, overall)."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import sounds

_MODEL = Package(
    name="speechmos",
    version="0.0.1.1",
    sha256="31c4c9d3234f6ee10102edff74333014c50006a3f389daf7ecacae34e68ebbf7",
)
_FILE = "speechmos/dnsmos_models/sig_bak_ovr.onnx"
_LENGTH = 144_160
_SAMPLES = 24
_SEED = 0


def _build(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    recordings = sounds.prompts(sources.packages[sounds.ENGLISH.name], 80, (2.0, 12.0))
    random = np.random.default_rng(_SEED)
    clips = [
        sounds.damaged(sounds.stretch(recordings, _LENGTH, random), random) for _ in range(_SAMPLES)
    ]
    return {"input_1": np.stack(clips)}


SUBJECT = Unlabelled(
    name="dnsmos",
    summary="three opinion scores of a recording, speech with noise",
    licenses="model MIT; prompts CC BY-SA 3.0, read, not shipped",
    inputs={"input_1": f"sound at 16 kHz, float32 within -1 and 1, {_LENGTH} samples"},
    build=_build,
    packages=(_MODEL, sounds.ENGLISH),
    libraries=("G722", "numpy", "onnx", "onnxruntime"),
)
