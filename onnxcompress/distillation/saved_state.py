"""How far a training got, on disk: an .npz without pickled objects."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import onnx
import torch

from onnxcompress.distillation.plan import Evaluated, Training
from onnxcompress.errors import CheckpointError
from onnxcompress.files import written_whole

_DAMAGED = (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile, zlib.error)


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
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                asked = str(arrays["question"])
                if asked == self._asked:
                    return self._restore(arrays, masters, averages, optimizer)
        except _DAMAGED as fault:
            raise CheckpointError(f"{self._path}: not a training checkpoint: {fault}") from fault
        raise CheckpointError(
            f"{self._path}: belongs to another training (model, data, options or version differ); "
            "name another file, or remove it to start anew"
        )

    def _restore(
        self,
        arrays: np.lib.npyio.NpzFile,
        masters: Sequence[torch.Tensor],
        averages: Sequence[torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> Loaded:
        for index, mean in enumerate(averages):
            mean.copy_(torch.from_numpy(arrays[f"average_{index}"]))
        best: list[torch.Tensor] = []
        for index, master in enumerate(masters):
            stored = arrays[f"master_{index}"]
            if stored.shape != tuple(master.shape):
                raise ValueError(f"weight {index} has shape {list(stored.shape)}")
            with torch.no_grad():
                master.copy_(torch.from_numpy(stored))
            best.append(torch.from_numpy(arrays[f"best_{index}"]))
            moments = {
                name: torch.from_numpy(arrays[f"{name}_{index}"])
                for name in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}_{index}" in arrays
            }
            if moments:
                optimizer.state[master] = moments
        step, seconds, epoch, samples = arrays["done"].tolist()
        reached = Reached(int(step), seconds, int(epoch), int(samples))
        history = [
            Evaluated(step=int(at), loss=float(loss), seconds=float(spent))
            for at, loss, spent in arrays["history"]
        ]
        return reached, history, best
