"""The training loop: steps of Adam, the best moment kept, an end for many reasons."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import torch

from onnxcompress.distillation import losses
from onnxcompress.distillation.average import Average
from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.lessons import Lesson, Lessons
from onnxcompress.distillation.losses import real_rows
from onnxcompress.distillation.parameters import FloatParameter, find_parameters
from onnxcompress.distillation.penalties import penalty
from onnxcompress.distillation.plan import (
    Evaluated,
    OutputLoss,
    Trained,
    Training,
    held_out_of,
)
from onnxcompress.distillation.saved_state import Reached, SavedState, question
from onnxcompress.distillation.values import as_tensor, to_torch
from onnxcompress.errors import DataError, ModelError

_WARM_UP = 0.05
"""Share of the training in which the learning rate rises."""

_LARGEST_GRADIENT = 1.0
"""Norm that gradients of all weights together are cut to."""

_GENTLER_TRIES = 2
"""How often the learning rate is lowered where training made nothing better."""

_INTERRUPTED = "interrupted"

_LEAST_VARIANCE = 1e-12
"""Of a mean square: what is below is rounding."""

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""


class Trainer:
    """One training of one model.

    Args:
        training: what is asked.
        lessons: the samples and the teacher's tensors, see `targets_of`.
        progress: told after each step.
        judging: likewise, for samples that choose the best moment; where there are none, and where
            the schedule says how many, some of `lessons` do and are not trained on.

    Raises:
        ModelError: there is nothing to train, or a node has no counterpart in PyTorch.
        DataError: fewer than two samples; or labels are asked for and there are none.
    """

    def __init__(
        self,
        training: Training,
        lessons: Lessons,
        progress: Progress,
        judging: Lessons | None = None,
    ):
        self._training = training
        self._lessons = lessons
        self._progress = progress
        self._interpreter = Interpreter(training.student)
        self._parameters, self._left = find_parameters(
            training.student,
            self._interpreter.precision,
            frozen=training.frozen,
            masks=training.masks,
            grids=training.grids,
            learn_scales=training.learn_scales,
        )
        if not self._parameters:
            raise ModelError(
                "the model has no weights to train: float32 weights, or integers that one "
                "DequantizeLinear reads, as far as they are not left out"
            )
        if len(lessons) < 2:
            raise DataError(f"training needs at least 2 samples, not {len(lessons)}")
        self._terms = losses.terms_of(training.objective, training.student)
        outputs = [output.name for output in training.student.graph.outputs]
        self._first = outputs[0]
        self._wanted = list(dict.fromkeys([*(term.student for term in self._terms), self._first]))
        self._seen = np.arange(len(lessons))
        if judging is not None and training.schedule.held_out is None:
            self._judging, self._held = judging, np.arange(len(judging))
        else:
            share, seed = training.schedule.held_out, training.schedule.seed
            self._judging, self._held = lessons, held_out_of(len(lessons), share, seed)
            self._seen = np.setdiff1d(self._seen, self._held, assume_unique=True)
        size = lessons.batch_size(training.schedule.batch_size)
        self._steps_of_epoch = math.ceil(len(self._seen) / size)
        self._variances: dict[str, torch.Tensor] = {}
        self._average: Average | None = None
        self._best: list[torch.Tensor] = []
        self._history: list[Evaluated] = []
        self._reached = Reached()

    def run(self) -> Trained:
        """Trains until the schedule, the patience, the time or the user ends it."""
        schedule = self._training.schedule
        masters = [each.master for each in self._parameters]
        optimizer = torch.optim.Adam(masters, lr=schedule.learning_rate)
        self._add_noise()
        if schedule.average != 0:
            self._average = Average(masters, schedule.average)
        averages = [] if self._average is None else self._average.values
        begin = time.monotonic()
        saved = self._saved()
        self._measure_variances()
        if saved is not None and saved.exists():
            found = saved.load(masters, averages, optimizer)
            self._reached, self._history, self._best = found
        else:
            self._evaluate(0, 0.0)
        step, before = self._reached.step, self._reached.seconds
        total = schedule.epochs * self._steps_of_epoch
        total = total if schedule.steps is None else min(total, schedule.steps)
        every = max(1, total // schedule.evaluations)
        stopped: str | None = None
        lessons = self._stream()
        try:
            while True:
                seconds = before + time.monotonic() - begin
                stopped = self._why_stop(step, total, seconds)
                if stopped is not None:
                    break
                share = self._share(step, total, seconds)
                if not self._step(next(lessons), optimizer, share):
                    rate = schedule.learning_rate
                    stopped = f"the loss was not finite: use a learning_rate below {rate:g}"
                    break
                step += 1
                if self._average is not None:
                    self._average.add(step)
                self._progress(step, total)
                if step % every == 0 or step == total:
                    seconds = before + time.monotonic() - begin
                    self._evaluate(step, seconds)
                    if saved is not None:
                        reached = replace(self._reached, step=step, seconds=seconds)
                        saved.save(masters, averages, optimizer, reached, self._history, self._best)
            if self._history[-1].step != step and self._is_sound():
                self._evaluate(step, before + time.monotonic() - begin)
        except KeyboardInterrupt:
            stopped = _INTERRUPTED
        self._progress(total, total)
        return self._trained(step, f"{stopped} (step {step} of {total})")

    def _stream(self) -> Iterator[Lesson]:
        """Batches without end, from where it stands; each epoch in its own order."""
        size, seed = self._training.schedule.batch_size, self._training.schedule.seed
        epoch, done = self._reached.epoch, self._reached.samples
        while True:
            order = np.random.default_rng([seed, 1, epoch]).permutation(self._seen)[done:]
            for lesson in self._lessons.batches(order, size, [seed, 3, epoch]):
                done += lesson.count
                ended = done == len(self._seen)
                now = (epoch + 1, 0) if ended else (epoch, done)
                self._reached = replace(self._reached, epoch=now[0], samples=now[1])
                yield lesson
            epoch, done = epoch + 1, 0

    def _why_stop(self, step: int, total: int, seconds: float) -> str | None:
        schedule = self._training.schedule
        if step >= total:
            return "all steps were done"
        if schedule.time_limit is not None and seconds >= schedule.time_limit:
            return f"time_limit={schedule.time_limit:g} seconds were over"
        # What it started from does not count: large steps first make a model worse.
        trained = [each.loss for each in self._history if each.step > 0]
        gone = len(trained) - 1 - int(np.argmin(trained)) if trained else 0
        if schedule.patience is not None and gone >= schedule.patience:
            return f"no better moment in {schedule.patience} evaluations"
        return None

    def _share(self, step: int, total: int, seconds: float) -> float:
        """How much of the training is over."""
        limit = self._training.schedule.time_limit
        return max(step / total, 0.0 if limit is None else seconds / limit)

    def _saved(self) -> SavedState | None:
        checkpoint = self._training.schedule.checkpoint
        if checkpoint is None:
            return None
        lessons = self._lessons.fingerprint()
        if self._judging is not self._lessons:
            lessons += self._judging.fingerprint()
        return SavedState(checkpoint, question(self._training, lessons))

    def _add_noise(self) -> None:
        generator = torch.Generator().manual_seed(self._training.schedule.seed)
        with torch.no_grad():
            for each in self._parameters if self._training.noise else ():
                if isinstance(each, FloatParameter) and each.master.numel() > 1:
                    noise = torch.randn(
                        each.master.shape, generator=generator, dtype=each.master.dtype
                    )
                    each.master += noise * each.master.std() * self._training.noise
                    each.settle()

    def _step(self, lesson: Lesson, optimizer: torch.optim.Optimizer, done: float) -> bool:
        """Moves all weights once; False, and moves none, where the loss is not finite."""
        schedule = self._training.schedule
        rate = done / _WARM_UP if done < _WARM_UP else (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * max(rate, 0.01)
        optimizer.zero_grad(set_to_none=True)
        loss = self._loss(lesson) + self._extra()
        if not torch.isfinite(loss):
            return False
        loss.backward()  # type: ignore[no-untyped-call]
        masters = [each.master for each in self._parameters]
        torch.nn.utils.clip_grad_norm_(masters, _LARGEST_GRADIENT)
        optimizer.step()
        for each in self._parameters:
            each.settle()
        return True

    def _is_sound(self) -> bool:
        """Whether all weights are finite."""
        return all(bool(torch.isfinite(each.master).all()) for each in self._parameters)

    def _loss(self, lesson: Lesson) -> torch.Tensor:
        """The objective on a batch."""
        for each in self._parameters:
            self._interpreter.stored[each.constant] = each.current()
        found = self._interpreter.run(lesson.feeds, self._wanted)
        tensors = {name: real_rows(as_tensor(value), lesson) for name, value in found.items()}
        targets = {
            name: real_rows(to_torch(value), lesson) for name, value in lesson.targets.items()
        }
        objective = self._training.objective
        loss = losses.total(self._terms, objective, tensors, targets, self._variances)
        if objective.labels:
            if lesson.labels is None:
                raise DataError(
                    f"labels={objective.labels:g} asks for labels and the data have none"
                )
            logarithm = losses.holds_probabilities(self._training.student.graph.outputs[0])
            labels = to_torch(lesson.labels)
            output = tensors[self._first]
            loss = loss + objective.labels * losses.label_loss(output, labels, logarithm=logarithm)
        return loss

    def _extra(self) -> torch.Tensor:
        """What is made small beside the objective."""
        found = penalty(self._training.penalty, self._parameters)
        if self._training.pull:
            distances = [
                (each.master - each.start).square().mean()
                / each.start.square().mean().clamp_min(1e-30)
                for each in self._parameters
                if isinstance(each, FloatParameter)
            ]
            found = found + self._training.pull * torch.stack(distances).mean()
        return found

    def _measure_variances(self) -> None:
        """The variance of each tensor that squared errors are taken of, over held-out samples."""
        names = {term.teacher for term in self._terms if term.loss is OutputLoss.MSE}
        sums = {name: np.zeros(3) for name in names}
        if not names:
            return
        for lesson in self._judging.batches(self._held, self._training.schedule.batch_size):
            for name in names:
                values = real_rows(to_torch(lesson.targets[name]), lesson).double().numpy()
                sums[name] += values.size, values.sum(), np.square(values).sum()
        for name, (count, total, squares) in sums.items():
            variance = squares / count - (total / count) ** 2
            # Of a tensor that does not vary, but for rounding, errors are taken as they are.
            varies = variance > _LEAST_VARIANCE * squares / count
            self._variances[name] = torch.tensor(variance if varies else 1.0).float()

    def _judged(self) -> AbstractContextManager[None]:
        """The weights that count in the end, in their place."""
        return nullcontext() if self._average is None else self._average.shown()

    def _evaluate(self, step: int, seconds: float) -> None:
        """Looks at the held-out samples; keeps the weights if they never were better."""
        total = 0.0
        with torch.no_grad(), self._judged():
            for lesson in self._judging.batches(self._held, self._training.schedule.batch_size):
                total += float(self._loss(lesson)) * lesson.count
            # Without it the best moment would be the one before the penalty began to tell.
            extra = float(penalty(self._training.penalty, self._parameters))
            loss = total / len(self._held) + extra
            if not self._history or loss < min(each.loss for each in self._history):
                self._best = [each.master.detach().clone() for each in self._parameters]
        self._history.append(Evaluated(step=step, loss=loss, seconds=seconds))

    def _trained(self, steps: int, stopped: str) -> Trained:
        with torch.no_grad():
            for each, best in zip(self._parameters, self._best, strict=True):
                each.master.copy_(best)
        return Trained(
            values={each.constant: each.array() for each in self._parameters if each.changed},
            history=tuple(self._history),
            best=min(self._history, key=lambda each: each.loss),
            steps=steps,
            stopped=stopped,
            left=self._left,
        )


def train(
    training: Training, lessons: Lessons, progress: Progress, judging: Lessons | None = None
) -> Trained:
    """Trains; where that makes nothing better, anew and more gently.

    What refitting or quantization left is close to the best already, and steps that a fresh student
    needs only lead away from it: a tenth of the learning rate is tried then, and a tenth of that.
    A checkpoint or a limit of time belongs to one training, which is not begun anew.

    Raises:
        ModelError, DataError: see `Trainer`.
    """
    schedule = training.schedule
    found = Trainer(training, lessons, progress, judging).run()
    for _ in range(_GENTLER_TRIES):
        is_better = found.best.step > 0 or found.stopped.startswith(_INTERRUPTED)
        if is_better or schedule.checkpoint is not None or schedule.time_limit is not None:
            break
        schedule = replace(schedule, learning_rate=schedule.learning_rate / 10)
        again = Trainer(replace(training, schedule=schedule), lessons, progress, judging).run()
        told = f"{again.stopped}, at a learning_rate of {schedule.learning_rate:.2g}"
        found = replace(again, stopped=told)
    return found


def targets_of(training: Training) -> list[str]:
    """The teacher's tensors that a training compares with."""
    terms = losses.terms_of(training.objective, training.student)
    return list(dict.fromkeys(term.teacher for term in terms))
