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

_CHANNELS = frozenset({1, 3})
"""Of pictures, grey or coloured."""

_ALIKE = 0.5
"""Squared difference of what a teacher says of mirror images, of its variance over images, below
which it takes them for much the same; 2 is what images have that are nothing to each other."""


class Augmentation(Enum):
    """How samples are varied, by the names recipes use.

    `shifts` moves each image by up to an eighth, `images` mirrors every other one from left to
    right too; `mixup` mixes each sample with another, at random shares; `both` does what `images`
    and `mixup` do. `auto` is `images` for pictures whose mirror images the teacher takes for much
    the same, `shifts` for other pictures, text among them, and `none` for what is no picture.
    """

    AUTO = "auto"
    NONE = "none"
    SHIFTS = "shifts"
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
    return why_no_images(feeds) if _STEPS[augmentation][:1] in ((_moved,), (_turned,)) else None


def are_pictures(feeds: Mapping[str, np.ndarray]) -> bool:
    """Whether all inputs of a batch are grey or coloured pictures [N, C, H, W], of floats."""
    return why_no_images(feeds) is None and all(
        images.shape[1] in _CHANNELS and min(images.shape[2:]) >= _SHIFT
        for images in feeds.values()
    )


def fit(said: Mapping[str, np.ndarray], of_mirrored: Mapping[str, np.ndarray]) -> Augmentation:
    """How to vary pictures.

    Args:
        said: what the teacher says of some of them, float arrays [N, ...] by tensor.
        of_mirrored: likewise of their mirror images.
    """
    alike = bool(said)
    for name, values in said.items():
        if values.dtype.kind != "f" or values.ndim != 2 or len(values) < 2:
            return Augmentation.SHIFTS
        apart = np.square(values.astype(np.float64) - of_mirrored[name]).mean()
        alike &= bool(apart < _ALIKE * values.var(axis=0, dtype=np.float64).mean())
    return Augmentation.IMAGES if alike else Augmentation.SHIFTS


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


def _turned(
    feeds: Mapping[str, np.ndarray], count: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    turned = (rng.random(count) < 0.5).reshape(-1, 1, 1, 1)
    return {name: np.where(turned, each[..., ::-1], each) for name, each in feeds.items()}


def _moved(
    feeds: Mapping[str, np.ndarray], count: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
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
            result[sample] = padded[sample, :, top : top + height, left : left + width]
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
    Augmentation.SHIFTS: (_moved,),
    Augmentation.IMAGES: (_turned, _moved),
    Augmentation.MIXUP: (_mixed,),
    Augmentation.BOTH: (_turned, _moved, _mixed),
}
