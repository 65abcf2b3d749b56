"""Gradients of stored tensors, batch by batch, for criteria that judge weights by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from onnxcompress.distillation import losses
from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.lessons import Lessons
from onnxcompress.distillation.plan import GradientsOf, Objective, OutputLoss
from onnxcompress.distillation.values import as_tensor, to_numpy, to_torch
from onnxcompress.errors import DataError, ModelError
from onnxcompress.ir.model import Constant, Model


def gradients(
    model: Model,
    constants: Sequence[Constant],
    lessons: Lessons,
    of: GradientsOf,
    *,
    batch_size: int,
    seed: int,
) -> Iterator[Mapping[Constant, np.ndarray]]:
    """See `pass_base.Context.gradients`."""
    interpreter = Interpreter(model)
    for constant in constants:
        interpreter.stored[constant] = to_torch(constant.values).requires_grad_()
    leaves = [interpreter.stored[constant] for constant in constants]
    terms = losses.terms_of(Objective(), model)
    generator = torch.Generator().manual_seed(seed)
    first = model.graph.outputs[0]
    if not terms and of is GradientsOf.OUTPUTS:
        raise ModelError("gradients of outputs need an output of a float type")
    for lesson in lessons.batches(np.arange(len(lessons)), batch_size):
        found = {
            name: losses.real_rows(as_tensor(value), lesson)
            for name, value in interpreter.run(lesson.feeds).items()
        }
        if of is GradientsOf.LABELS:
            if lesson.labels is None:
                raise DataError("gradients of labels need data with labels; use those of outputs")
            labels = to_torch(lesson.labels)
            logarithm = losses.holds_probabilities(first)
            loss = losses.label_loss(found[first.name], labels, logarithm=logarithm)
        else:
            loss = torch.stack([_drawn(found[t.student], t, generator) for t in terms]).sum()
        yield {
            constant: np.zeros(constant.shape, np.float32) if slope is None else to_numpy(slope)
            for constant, slope in zip(
                constants, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True
            )
        }


def _drawn(output: torch.Tensor, term: losses.Term, generator: torch.Generator) -> torch.Tensor:
    """A loss whose squared gradients are, on average, what a change of weights does to an output.

    The distance to one's own outputs has no gradient. So classes are drawn from the probabilities
    that the model itself gives them, which makes squared gradients the Fisher information; other
    outputs are multiplied with random signs.
    """
    if term.loss is OutputLoss.DIVERGENCE:
        scores = output.clamp_min(1e-12).log() if term.logarithm else output
        scores = scores.reshape(-1, scores.shape[-1])
        chances = torch.softmax(scores.detach(), dim=-1)
        drawn = torch.multinomial(chances, 1, generator=generator)
        surprise: torch.Tensor = -torch.log_softmax(scores, dim=-1).gather(1, drawn).mean()
        return surprise
    signs = torch.randint(0, 2, output.shape, generator=generator, dtype=output.dtype) * 2 - 1
    signed: torch.Tensor = (output * signs).sum() / output.numel() ** 0.5
    return signed
