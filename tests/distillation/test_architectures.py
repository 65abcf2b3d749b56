"""Every export computes what its torch module does, and passes gradients to its inputs alike."""

import numpy as np
import pytest
import torch

from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.values import as_tensor
from onnxcompress.ir import io
from tests.architectures.export import OUTPUT, Exports
from tests.architectures.specification import Architecture, Exporter
from tests.architectures.table import ARCHITECTURES


def read(feeds: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Feeds as tensors; gradients of the float ones are asked for."""
    tensors = {name: torch.from_numpy(each) for name, each in feeds.items()}
    return {
        name: each.requires_grad_() if each.is_floating_point() else each
        for name, each in tensors.items()
    }


def gradients(output: torch.Tensor, feeds: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Those of a sum with fixed weights, for each float input."""
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    floats = [each for each in feeds.values() if each.requires_grad]
    return torch.autograd.grad((output * weights).sum(), floats) if floats else ()


def assert_close(found: torch.Tensor, expected: torch.Tensor, exporter: Exporter) -> None:
    assert found.shape == expected.shape, exporter
    limit = 2e-5 * float(expected.detach().abs().max())
    assert float((found - expected).detach().abs().max()) <= limit, exporter


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
def test_same_as_torch(architecture: Architecture, exports: Exports) -> None:
    module = architecture.module()
    interpreters = {
        exporter: Interpreter(io.load(exports.path(architecture, exporter)))
        for exporter in Exporter
        if exporter not in architecture.refused
    }
    assert interpreters
    for batch, sequence in ((1, 11), (4, 16)):
        feeds = read(architecture.feeds(batch, sequence=sequence, seed=1))
        expected = module(*feeds.values())
        wanted = gradients(expected, feeds)
        for exporter, interpreter in interpreters.items():
            assert not interpreter.unsupported()
            found = as_tensor(interpreter.run(feeds)[OUTPUT])
            assert_close(found, expected, exporter)
            for ours, theirs in zip(gradients(found, feeds), wanted, strict=True):
                assert_close(ours, theirs, exporter)
