"""Gradients of every real model are what float64 central differences say."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.parameters import find_parameters
from onnxcompress.distillation.values import as_tensor
from onnxcompress.ir import io
from onnxcompress.runtime.session import Session
from tests.conftest import SUBJECTS
from tests.distillation.test_subjects import feeds

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """A subject and how it is run.

    Attributes:
        subject: the folder's name.
        samples: fed at once.
        longest: dynamic axes but the batch are cut to it.
        every: the share of the weights that move, one in so many: differences take time.
        step: half the distance between the two points; ReLU and its kin have kinks, so it is small,
            and smaller where there are many and the slope is steep.
    """

    subject: str
    samples: int = 2
    longest: int = 1000
    every: int = 1
    step: float = 1e-9


CASES = [
    Case("digits"),
    Case("efficientnet-lite0", samples=1, step=1e-10),
    Case("minilm", longest=24),
    Case("orientation", samples=1),
    Case("resnet20"),
    Case("smollm2", samples=1, longest=4, every=25),
    Case("speaker-encoder", samples=1, longest=60),
    Case("text-line", samples=1, longest=96),
]


def slopes(
    interpreter: Interpreter, leaves: Mapping, fed: Mapping[str, np.ndarray], step: float
) -> tuple[float, float]:
    """Along a random direction in the space of all weights: by autograd, and by differences.

    The loss is a random projection of all float outputs, of the size of one of their elements.
    """
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def loss() -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for name, value in interpreter.run(fed).items():
            output = as_tensor(value)
            if not output.is_floating_point():
                continue
            if name not in weights:
                weights[name] = torch.randn(output.shape, generator=generator, dtype=torch.float64)
            total = total + (output * weights[name]).sum() / output.numel() ** 0.5
        return total

    tensors = list(leaves.values())
    gradients = torch.autograd.grad(loss(), tensors, allow_unused=True)
    # Each tensor moves by a share of its own size, and towards its gradient on the whole: a random
    # direction alone is all but orthogonal to it, and differences would be of rounding.
    directions = []
    for tensor, gradient in zip(tensors, gradients, strict=True):
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        size = tensor.detach().square().mean().sqrt().clamp_min(1e-3)
        directions.append(noise * size)
        if gradient is not None and gradient.any():
            directions[-1] += gradient / gradient.square().mean().sqrt() * size
    expected = sum(
        float((gradient * direction).sum())
        for gradient, direction in zip(gradients, directions, strict=True)
        if gradient is not None
    )
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            for (constant, leaf), direction in zip(leaves.items(), directions, strict=True):
                interpreter.stored[constant] = leaf + sign * step * direction
            values.append(float(loss()))
    return expected, (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.subject)
def test_gradients_are_those_of_central_differences(case):
    folder = SUBJECTS / case.subject
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{case.subject} was not fetched: python -m benchmarks.subjects fetches it")
    model = io.load(folder / "model.onnx")
    interpreter = Interpreter(model, precision=torch.float64)
    parameters, _ = find_parameters(model, torch.float64)
    leaves = {each.constant: each.master for each in parameters[:: case.every]}
    interpreter.stored.update(leaves)
    fed = feeds(Session(folder / "model.onnx"), folder, case.samples, case.longest)
    by_autograd, by_differences = slopes(interpreter, leaves, fed, case.step)
    assert abs(by_autograd) > 1e-3
    assert abs(by_differences - by_autograd) <= 1e-7 * abs(by_autograd)
