"""Samples varied at random, so that a few of them teach more.

The teacher sees what the student sees, so that no label has to fit. Source: Beyer et al.,
"Knowledge Distillation: A Good Teacher is Patient and Consistent", CVPR 2022; Zhang et al., "mixup:
Beyond Empirical Risk Minimization", ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

import numpy as np

_SHIFT = 8
"""Images move by up to one part in so many of their height and width."""


class Augmentation(Enum):
    """How samples are varied, by the names recipes use.

    `images` mirrors every other image from left to right and moves each by up to an eighth; `mixup`
    mixes each sample with another, at random shares; `both` does one after the other.
    """

    NONE = "none"
    IMAGES = "images"
    MIXUP = "mixup"
    BOTH = "both"

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed: no label fits them any more."""
        return self in (Augmentation.MIXUP, Augmentation.BOTH)


def why_unfit(augmentation: Augmentation, feeds: Mapping[str, np.ndarray]) -> str | None:
    """Why inputs cannot be varied so; None if they can.

    Args:
        augmentation: how.
        feeds: a batch of the model's inputs.
    """
    for name, values in feeds.items():
        if augmentation.mixes and values.dtype.kind != "f":
            return f"input {name!r} is {values.dtype}: mixing is for floats"
    moved = augmentation in (Augmentation.IMAGES, Augmentation.BOTH)
    return why_no_images(feeds) if moved else None


def why_no_images(feeds: Mapping[str, np.ndarray]) -> str | None:
    """Why inputs cannot be mirrored and moved; None if all are float images [N, C, H, W]."""
    for name, values in feeds.items():
        if values.ndim != 4 or values.dtype.kind != "f":
            return f"input {name!r} {list(values.shape)} is no batch of images [N, C, H, W]"
    return None


def mirrored(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Images [N, C, H, W] from left to right."""
    return {name: np.ascontiguousarray(images[..., ::-1]) for name, images in feeds.items()}


def augment(
    augmentation: Augmentation, feeds: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """A batch varied at random; all inputs of a sample alike.

    Args:
        augmentation: how; inputs must fit, see `why_unfit`.
        feeds: arrays by input name, samples along the first axis.
        rng: what is drawn from.
    """
    count = len(next(iter(feeds.values())))
    varied = dict(feeds)
    for step in _STEPS[augmentation]:
        varied = step(varied, count, rng)
    return varied


def _moved(
    feeds: Mapping[str, np.ndarray], count: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    turned = rng.random(count) < 0.5
    shifts = rng.uniform(-1, 1, (count, 2))
    varied: dict[str, np.ndarray] = {}
    for name, images in feeds.items():
        height, width = images.shape[2:]
        margins = height // _SHIFT, width // _SHIFT
        padding = ((0, 0), (0, 0), *((margin, margin) for margin in margins))
        padded = np.pad(images, padding, mode="edge")
        result = np.empty_like(images)
        starts = np.rint((shifts + 1) * margins).astype(int)
        for sample, (top, left) in enumerate(starts):
            image = padded[sample, :, top : top + height, left : left + width]
            result[sample] = image[:, :, ::-1] if turned[sample] else image
        varied[name] = result
    return varied


def _mixed(
    feeds: Mapping[str, np.ndarray], count: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    shares = rng.uniform(0, 1, count)
    partners = rng.permutation(count)
    varied: dict[str, np.ndarray] = {}
    for name, values in feeds.items():
        share = shares.reshape([-1] + [1] * (values.ndim - 1)).astype(values.dtype)
        varied[name] = share * values + (1 - share) * values[partners]
    return varied


_Step = Callable[
    [Mapping[str, np.ndarray], int, np.random.Generator],
    dict[str, np.ndarray],
]

_STEPS: Mapping[Augmentation, tuple[_Step, ...]] = {
    Augmentation.NONE: (),
    Augmentation.IMAGES: (_moved,),
    Augmentation.MIXUP: (_mixed,),
    Augmentation.BOTH: (_moved, _mixed),
}
