"""A model that others learn from, asked by onnxruntime."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import psutil

from onnxcompress.distillation.augmentation import mirrored, why_no_images
from onnxcompress.errors import DataError
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model, Variable
from onnxcompress.runtime.calibration import fingerprint
from onnxcompress.runtime.loading import session_of
from onnxcompress.runtime.session import SessionSettings


class Teacher:
    """Says what a model makes of samples.

    Args:
        model: whom to ask.
        tensors: what is wanted: inputs of the model, or tensors of its main graph.
        both_sides: each tensor is the mean of what the model says of images and of their mirror
            images.
    """

    def __init__(self, model: Model, tensors: Sequence[str], *, both_sides: bool = False):
        self._tensors = tuple(tensors)
        self._both_sides = both_sides
        self._fingerprint = fingerprint(model)
        given = {tensor.name for tensor in model.graph.inputs}
        self._computed = [name for name in tensors if name not in given]
        watched = clone(model)
        outputs = {output.name: output for output in watched.graph.outputs}
        # What nobody asks for need not be computed.
        watched.graph.outputs[:] = [outputs.get(name, Variable(name)) for name in self._computed]
        # Between two batches the student is trained, on the same cores.
        settings = SessionSettings(
            threads=psutil.cpu_count(logical=False) or 1, prepack=False, spin=False
        )
        self._session = session_of(watched, settings) if self._computed else None

    def fingerprint(self) -> str:
        """What tells this teacher from others."""
        told = repr((self._fingerprint, self._tensors, self._both_sides))
        return hashlib.sha256(told.encode()).hexdigest()

    def says(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The wanted tensors by name.

        Args:
            feeds: a batch of the model's inputs.

        Raises:
            DataError: both sides are asked for, but the inputs are no images, or a tensor has more
                than a row of numbers for each of them.
        """
        found = self._run(feeds)
        if not self._both_sides:
            return found
        unfit = why_no_images(feeds)
        for name, values in found.items():
            if values.ndim > 2 or values.dtype.kind != "f":
                unfit = f"{name!r} {list(values.shape)} is not a row of numbers for each image"
        if unfit is not None:
            raise DataError(f"mirror_teacher: {unfit}")
        other = self._run(mirrored(feeds))
        return {name: (values + other[name]) / 2 for name, values in found.items()}

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = {} if self._session is None else self._session.run(feeds, self._computed)
        return values | {name: feeds[name] for name in self._tensors if name in feeds}
