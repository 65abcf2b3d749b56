"""A folder that keeps each round of pruning, so that the rounds after it can be run another day.

`round-1.onnx`, `round-2.onnx`, ... are the models that the rounds left, zeros in place and not yet
stripped; `state.json` lists the rounds that are complete. It is written last: a round that is not
in it never was.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from onnxcompress.budget import Budget
from onnxcompress.errors import CheckpointError, ModelError
from onnxcompress.files import write_text
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import PassReport
from onnxcompress.report.schema import RoundReport
from onnxcompress.runtime.calibration import fingerprint
from onnxcompress.search.schedule import Iteration

_STATE = "state.json"
_DIGEST = "sha256"
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a run was asked. Where any of it differs, the rounds would be others.

    Attributes:
        version: of this package.
        model: its fingerprint.
        seed: of the split, which the samples below follow from.
        calibration: the fingerprint of the samples that passes see; None without any.
        training: of those that they train on.
        validation: of the samples that rounds are tested on.
        recipe: as TOML.
        shares: what is gone after each round.
        metric: the names of the metrics.
        judged: outputs to judge and how, as they were given.
        budget: what a round may cost.
        batch_size: samples in a batch.
        target: the processor to quantize for.
        runtime: the onnxruntime that the result must load on, if one was asked for.
    """

    version: str
    model: str
    seed: int
    calibration: str | None
    training: str | None
    validation: str
    recipe: str
    shares: tuple[float, ...]
    metric: str
    judged: tuple[str, ...]
    budget: Budget
    batch_size: int
    target: str
    runtime: str | None = None


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round that is complete.

    Attributes:
        model: the fingerprint of the model that it left.
        passes: what its passes did.
        report: how the model did when it was tested.
    """

    model: str
    passes: tuple[PassReport, ...]
    report: RoundReport


@dataclass(frozen=True, kw_only=True)
class _State:
    question: Question
    rounds: tuple[Round, ...] = ()


class Checkpoints:
    """The rounds that are complete, in a folder.

    `begin` and `resume` make one.
    """

    def __init__(self, folder: Path, state: _State):
        self._folder = folder
        self._state = state

    @classmethod
    def begin(cls, folder: Path, question: Question) -> Checkpoints:
        """Makes the folder, if it is missing, and notes the question in it.

        Raises:
            CheckpointError: it holds rounds already, or cannot be made.
            OutputError: it cannot be written.
        """
        if (folder / _STATE).exists():
            raise CheckpointError(
                f"{folder}: holds the checkpoints of an earlier run; resume it, or name another "
                "folder"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise CheckpointError(f"{folder}: cannot be made: {fault.strerror}") from fault
        made = cls(folder, _State(question=question))
        made._write()
        return made

    @classmethod
    def resume(cls, folder: Path, question: Question) -> Checkpoints:
        """Reads what a run with the same question left.

        Raises:
            CheckpointError: there is nothing, it is damaged, or the question was another one;
                names what differs.
        """
        path = folder / _STATE
        try:
            state = _read(path)
        except FileNotFoundError as fault:
            raise CheckpointError(f"{folder}: holds no checkpoints to resume") from fault
        except OSError as fault:
            raise CheckpointError(f"{path}: cannot be read: {fault.strerror}") from fault
        except (ValueError, RecursionError, msgspec.ValidationError) as fault:
            raise CheckpointError(f"{path}: not what a run in rounds wrote ({fault})") from fault
        difference = _difference(state.question, question)
        if difference is not None:
            raise CheckpointError(
                f"{folder}: its checkpoints are of another run: {difference}; resume with what was "
                "given then, or begin in another folder"
            )
        return cls(folder, state)

    @property
    def question(self) -> Question:
        """What the run was asked."""
        return self._state.question

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Those that are complete, the first one first."""
        return self._state.rounds

    def save(self, number: int, model: Model) -> Model:
        """Writes the model that a round left; the round counts once it is added.

        Returns:
            The model as the file holds it.

        Raises:
            OutputError: it cannot be written.
        """
        io.save(model, self._path(number))
        return io.load(self._path(number))

    def add(self, done: Round) -> None:
        """Notes that a round is complete.

        Raises:
            OutputError: it cannot be written.
        """
        self._state = replace(self._state, rounds=(*self.rounds, done))
        self._write()

    def load(self, number: int) -> Model:
        """The model that a round left, of those that are complete.

        Raises:
            CheckpointError: the file is missing, or is not what the round wrote.
        """
        path = self._path(number)
        again = f"delete {self._folder} and begin anew"
        try:
            model = io.load(path)
        except ModelError as fault:
            raise CheckpointError(f"{fault}; {again}") from fault
        if fingerprint(model) != self.rounds[number - 1].model:
            raise CheckpointError(f"{path}: is not the model that round {number} left; {again}")
        return model

    def _path(self, number: int) -> Path:
        return self._folder / f"round-{number}.onnx"

    def _write(self) -> None:
        # Python's own writer knows infinity, which the drop of a broken model is.
        state = msgspec.to_builtins(self._state)
        text = json.dumps({_DIGEST: _digest(state), **state}, indent=1)
        write_text(self._folder / _STATE, text + "\n")


def _read(path: Path) -> _State:
    """Reads what `_write` wrote.

    Raises:
        OSError: there is none.
        ValueError: it is too large, no JSON, holds NaN, or is not what was written.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES >> 20} MiB")
    found = json.loads(path.read_bytes(), parse_constant=_infinity)
    digest = found.pop(_DIGEST, None) if isinstance(found, dict) else None
    if digest != _digest(found):
        raise ValueError("it was changed, or cut short")
    return msgspec.convert(found, _State)


def _infinity(text: str) -> float:
    if text == "NaN":
        raise ValueError("it holds NaN")
    return float(text)


def _digest(state: Any) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def open_checkpoints(iteration: Iteration, question: Question, scratch: Path) -> Checkpoints:
    """Those that an iteration names, or some in a folder that is not kept.

    Raises:
        CheckpointError: see `Checkpoints.begin` and `Checkpoints.resume`.
    """
    if iteration.checkpoints is None:
        return Checkpoints.begin(scratch, question)
    folder = Path(iteration.checkpoints)
    begin_or_resume = Checkpoints.resume if iteration.resume else Checkpoints.begin
    return begin_or_resume(folder, question)


_SHOWN = 60


def _difference(before: Question, now: Question) -> str | None:
    """The first answer that is another one, in words."""
    for field in fields(Question):
        then, given = getattr(before, field.name), getattr(now, field.name)
        if then != given:
            what = field.name.replace("_", " ")
            return f"{what} was {_shown(then)}, is {_shown(given)}"
    return None


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, Budget) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
