"""Clouds and their shadows in satellite pictures: a U-Net on EfficientNet-B4, logits of 3 classes.

The sky is ours: clouds and shadows drawn over photographs whose brightness stands for the ground's.
They do not look like what the model learnt from, and it finds a third of them; what it answers
still differs from place to place and from picture to picture, which is what a judge needs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import photographs

_MODEL = Package(
    name="ukis-csmask",
    version="1.0.0",
    sha256="898d6efe59b3908ec92aabad3f61a56394ff81d997a2ebe5675732503a18d1f1",
)
_FILE = "ukis_csmask/model_4b_l1c.onnx"
_SIDE = 256
_SAMPLES = 12
_SHARE = (0.6, 1.0)
_CLOUDED = (0.1, 0.3, 0.5)
_ROUGHNESS = 1.8
_SEED = 0


def _billows(random: np.random.Generator) -> np.ndarray:
    """A surface as rough as clouds are, of mean 0 and deviation 1; [side, side]."""
    steps = np.fft.fftfreq(_SIDE)
    frequencies = np.hypot(steps[:, None], steps)
    frequencies[0, 0] = np.inf
    waves = np.fft.fft2(random.standard_normal((_SIDE, _SIDE))) * frequencies**-_ROUGHNESS
    surface = np.fft.ifft2(waves).real
    billows: np.ndarray = surface / surface.std()
    return billows


def _reflectance(ground: np.ndarray, clouded: float, random: np.random.Generator) -> np.ndarray:
    """Blue, green, red and near infrared, [side, side, 4], of a photograph under clouds."""
    bands = 0.05 + 0.25 * ground[..., ::-1]
    infrared = 0.1 + 0.4 * ground[..., 1:2]
    billows = _billows(random)[..., None]
    cloud = np.clip(1.2 * (billows - np.quantile(billows, 1 - clouded)), 0, 1)
    shadow = np.roll(cloud, (12, -18), axis=(0, 1))
    lit = np.concatenate([bands, infrared], axis=-1) * (1 - 0.65 * shadow)
    covered: np.ndarray = lit * (1 - cloud) + cloud * (0.55 + 0.1 * np.clip(billows, -2, 2))
    return covered


def _build(sources: Sources, folder: Path) -> Arrays:
    file = sources.packages[_MODEL.name] / _FILE
    shutil.copyfile(file, folder / "model.onnx")
    told = json.loads(file.with_suffix(".json").read_text())
    mean, deviation = map(np.array, told["data"]["dataset_statistics"]["img"])
    things = photographs.things(sources.packages[photographs.THINGS.name])
    random = np.random.default_rng(_SEED)
    pictures = []
    for index in range(_SAMPLES):
        view = photographs.view(things[index % len(things)], _SHARE, random)
        ground = np.asarray(view.resize((_SIDE, _SIDE)), dtype=np.float64) / 255
        seen = _reflectance(ground, _CLOUDED[index % len(_CLOUDED)], random)
        pictures.append(((seen - mean) / deviation).transpose(2, 0, 1).astype(np.float32))
    return {"input": np.ascontiguousarray(np.stack(pictures))}


SUBJECT = Unlabelled(
    name="cloud-mask",
    summary="U-Net on EfficientNet-B4, clear, cloud or shadow at each pixel, logits",
    licenses="model Apache-2.0; photographs ImageNet's, read, not shipped",
    inputs={
        "input": "blue, green, red and near infrared reflectance, less the package's mean, over "
        f"its std, NCHW float32, {_SIDE}x{_SIDE} pixels"
    },
    build=_build,
    packages=(_MODEL, photographs.THINGS),
    libraries=("numpy", "onnx", "onnxruntime", "pillow"),
)
