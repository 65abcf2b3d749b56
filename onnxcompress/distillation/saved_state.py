"""How far a training got, on disk: an .npz without pickled objects."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np
import onnx
import torch

from onnxcompress.data.npz import read_array, read_members
from onnxcompress.distillation.plan import Evaluated, Training
from onnxcompress.errors import CheckpointError, DataError
from onnxcompress.files import written_whole

_MOST_EVALUATIONS = 1_000_000
_LARGEST_ITEM = 256  # bytes of the text that tells one training from another


@dataclass(frozen=True)
class Reached:
    """How far a training got.

    Attributes:
        step: steps done.
        seconds: spent.
        epoch: rounds over the samples that were finished.
        samples: seen in the round after these.
    """

    step: int = 0
    seconds: float = 0.0
    epoch: int = 0
    samples: int = 0


Loaded = tuple[Reached, list[Evaluated], list[torch.Tensor]]
"""How far it got, the history and the best weights."""


def question(training: Training, lessons: str) -> str:
    """What tells one training from another: all that its result depends on.

    Args:
        training: what is asked.
        lessons: fingerprint of the samples and of the teacher.
    """
    digest = hashlib.sha256(lessons.encode())
    schedule = replace(training.schedule, checkpoint=None, time_limit=None)
    digest.update(repr((schedule, training.objective, training.learn_scales)).encode())
    digest.update(repr((training.pull, training.noise)).encode())
    asked = training.penalty
    digest.update(repr((asked.l1, asked.l2, asked.group_lasso)).encode())
    for _, node in training.student.nodes():
        names = [[each.name for each in tensors] for tensors in (node.inputs, node.outputs)]
        digest.update(repr((node.domain, node.op, names)).encode())
        for name, value in sorted(node.attrs.items()):
            told = (
                value.SerializeToString(deterministic=True)
                if isinstance(value, onnx.AttributeProto)
                else b""
            )
            digest.update(name.encode() + told)
    for constant in training.student.constants():
        frozen, mask = constant in training.frozen, training.masks.get(constant)
        grid = training.grids.get(constant)
        digest.update(repr((constant.name, constant.shape, frozen, grid)).encode())
        digest.update(np.ascontiguousarray(constant.values).reshape(-1).view(np.uint8).data)
        if mask is not None:
            digest.update(np.packbits(mask).tobytes())
    return digest.hexdigest()


class SavedState:
    """One file that is written after each evaluation.

    Args:
        path: the file.
        asked: see `question`.
    """

    def __init__(self, path: Path, asked: str):
        self._path = path
        self._asked = asked

    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return self._path.exists()

    def save(
        self,
        masters: Sequence[torch.Tensor],
        averages: Sequence[torch.Tensor],
        optimizer: torch.optim.Optimizer,
        reached: Reached,
        history: Sequence[Evaluated],
        best: Sequence[torch.Tensor],
    ) -> None:
        """Writes the file, whole or not at all.

        Args:
            masters: the weights.
            averages: of each, see `Average`; empty where none is kept.
            optimizer: whose moments are saved.
            reached: how far it got.
            history: of the evaluations.
            best: the weights that were best.

        Raises:
            OutputError: it cannot be written.
        """
        arrays: dict[str, np.ndarray] = {
            "question": np.array(self._asked),
            "done": np.array(astuple(reached), np.float64),
            "history": np.array([[e.step, e.loss, e.seconds] for e in history], np.float64),
        }
        for index, (master, kept) in enumerate(zip(masters, best, strict=True)):
            arrays[f"master_{index}"] = master.detach().numpy()
            arrays[f"best_{index}"] = kept.numpy()
            for name, value in optimizer.state.get(master, {}).items():
                arrays[f"{name}_{index}"] = value.numpy()
        arrays |= {f"average_{index}": mean.numpy() for index, mean in enumerate(averages)}
        with written_whole(self._path) as (file,):
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load(
        self,
        masters: Sequence[torch.Tensor],
        averages: Sequence[torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> Loaded:
        """Puts weights, their averages and the optimizer's moments back, and tells the rest.

        Raises:
            CheckpointError: the file is damaged or belongs to another training.
        """
        try:
            arrays = _Arrays(self._path)
            if str(arrays.read("question", ())) == self._asked:
                return _restore(arrays, masters, averages, optimizer)
        except (DataError, ValueError) as fault:
            raise CheckpointError(f"{self._path}: not a training checkpoint: {fault}") from fault
        raise CheckpointError(
            f"{self._path}: belongs to another training (model, data, options or version differ); "
            "name another file, or remove it to start anew"
        )


class _Arrays:
    """Arrays of a file that nobody vouches for: each is read only where it has the shape wanted."""

    def __init__(self, path: Path):
        self._path = path
        self._members = read_members(path)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """An array without NaN; None is an axis of at most `_MOST_EVALUATIONS`.

        Raises:
            DataError: it is damaged.
            ValueError: it is missing, has another shape, or holds NaN.
        """
        member = self._members.get(name)
        if member is None:
            raise ValueError(f"it holds no {name!r}")
        fits = len(member.shape) == len(shape) and all(
            size <= _MOST_EVALUATIONS if wanted is None else size == wanted
            for size, wanted in zip(member.shape, shape, strict=True)
        )
        if not fits or member.dtype.itemsize > _LARGEST_ITEM:
            raise ValueError(f"{name!r} is {member.dtype} of shape {list(member.shape)}")
        array = read_array(self._path, member)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"{name!r} holds NaN")
        return array


def _restore(
    arrays: _Arrays,
    masters: Sequence[torch.Tensor],
    averages: Sequence[torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> Loaded:
    for index, mean in enumerate(averages):
        mean.copy_(torch.from_numpy(arrays.read(f"average_{index}", tuple(mean.shape))))
    best: list[torch.Tensor] = []
    for index, master in enumerate(masters):
        shape = tuple(master.shape)
        with torch.no_grad():
            master.copy_(torch.from_numpy(arrays.read(f"master_{index}", shape)))
        best.append(torch.from_numpy(arrays.read(f"best_{index}", shape)))
        moments = {
            name: torch.from_numpy(arrays.read(f"{name}_{index}", like))
            for name, like in (("step", ()), ("exp_avg", shape), ("exp_avg_sq", shape))
            if f"{name}_{index}" in arrays
        }
        if moments:
            optimizer.state[master] = moments
    step, seconds, epoch, samples = arrays.read("done", (len(fields(Reached)),)).tolist()
    reached = Reached(int(step), seconds, int(epoch), int(samples))
    history = [
        Evaluated(step=int(at), loss=float(loss), seconds=float(spent))
        for at, loss, spent in arrays.read("history", (None, 3))
    ]
    return reached, history, best
