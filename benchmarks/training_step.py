"""What a training step through our interpreter costs, beside the same step in hand-written torch.

``python -m benchmarks.training_step`` times forward, distillation loss, backward and Adam for all
weights of ResNet-20 and of MiniLM-L6: once read from the ONNX file, once with modules that hold the
same weights (convolutions and ReLU as anyone would write them; the BertModel of transformers). Both
steps start from the same loss, which is checked. One thread, taking turns in random order, medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.page import add_subjects, page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject
from onnxcompress.errors import ModelError
from onnxcompress.ir import io, query
from onnxcompress.ir.model import Model

if TYPE_CHECKING:
    import torch

Arrays = Mapping[str, np.ndarray]
Step = Callable[[], float]
"""One step of training; gives the loss before it."""

ROUNDS: Final = 25
WARM_UP: Final = 3
TOLERANCE: Final = 1e-3
"""Of the first losses, as a share of them."""


@dataclass(frozen=True)
class Case:
    """A subject and what it is fed.

    Attributes:
        name: of the row.
        samples: in a batch.
        tokens: texts are cut to; None for images.
        module: makes the hand-written network from the model's stored weights.
    """

    name: str
    samples: int
    tokens: int | None
    module: Callable[[Model], torch.nn.Module]


def resnet20(model: Model) -> torch.nn.Module:
    """Images [N, 3, 32, 32] -> scores [N, 10]; batch normalization is folded, as in the file."""
    import torch
    from torch.nn import functional

    class ResNet20(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            nodes = query.nodes(model, {"Conv"})
            self.convs = torch.nn.ModuleList()
            for node in nodes:
                weight, bias = (query.constant(node, at) for at in (1, 2))
                assert weight is not None
                assert bias is not None
                outputs, inputs = weight.shape[:2]
                stride = node.ints_attr("strides")[0]
                conv = torch.nn.Conv2d(inputs, outputs, 3, stride, padding=1)
                conv.weight.data.copy_(torch.tensor(weight.values))
                assert conv.bias is not None
                conv.bias.data.copy_(torch.tensor(bias.values))
                self.convs.append(conv)
            self.linear = torch.nn.Linear(64, 10)
            stored = {constant.name: constant.values for constant in model.constants()}
            for name, parameter in self.linear.named_parameters():
                parameter.data.copy_(torch.tensor(stored[f"linear.{name}"]))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = functional.relu(self.convs[0](images))
            for first, second in zip(self.convs[1::2], self.convs[2::2], strict=True):
                y = second(functional.relu(first(x)))
                if y.shape != x.shape:
                    missing = y.shape[1] - x.shape[1]
                    x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, missing // 2, missing // 2))
                x = functional.relu(y + x)
            scores: torch.Tensor = self.linear(functional.avg_pool2d(x, 8).flatten(1))
            return scores

    return ResNet20()


def minilm(model: Model) -> torch.nn.Module:
    """Ids, mask and types [N, T] -> scores [N, 8]: the module that the file was exported from."""
    import torch
    from transformers import BertConfig, BertModel

    from benchmarks.subjects.sentence_classifier import SentenceClassifier

    config = BertConfig(
        hidden_size=384, intermediate_size=1536, num_attention_heads=12, num_hidden_layers=6
    )
    config._attn_implementation = "eager"
    module = SentenceClassifier(BertModel(config, add_pooling_layer=False), 8).eval()
    stored = {constant.name: constant.values for constant in model.constants()}
    for node in query.nodes(model, {"MatMul"}):
        weight = query.constant(node, 1)
        if weight is not None:
            path = node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            stored[f"{path}.weight"] = weight.values.T
    for name, parameter in module.named_parameters():
        parameter.data.copy_(torch.tensor(stored[name]))
    return module


CASES: Final[Mapping[str, Case]] = {
    "resnet20": Case("ResNet-20, 32 images", 32, None, resnet20),
    "minilm": Case("MiniLM-L6, 16 texts of 64 tokens", 16, 64, minilm),
}


def feeds_of(folder: Path, model: Model, case: Case) -> dict[str, np.ndarray]:
    """The first samples of the calibration data."""
    with np.load(folder / "calibration.npz") as arrays:
        return {
            each.name: arrays[each.name][: case.samples]
            if case.tokens is None
            else arrays[each.name][: case.samples, : case.tokens]
            for each in model.graph.inputs
        }


def step_of(
    forward: Callable[[], torch.Tensor], weights: Sequence[torch.Tensor], target: torch.Tensor
) -> Step:
    """A step of both sides: everything but the network is the same."""
    import torch

    from onnxcompress.distillation.losses import divergence

    optimizer = torch.optim.Adam(weights, lr=1e-5)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = divergence(forward(), target, 2.0, logarithm=False)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        return loss.item()

    return step


def steps_of(model: Model, case: Case, feeds: Arrays) -> tuple[Step, Step]:
    """A step through the interpreter, and the hand-written one."""
    import torch

    from onnxcompress.distillation.interpreter import Interpreter
    from onnxcompress.distillation.parameters import find_parameters
    from onnxcompress.distillation.values import as_tensor

    interpreter = Interpreter(model)
    parameters, _ = find_parameters(model, torch.float32)
    (output,) = [each.name for each in model.graph.outputs]
    module = case.module(model)
    tensors = [torch.from_numpy(array) for array in feeds.values()]
    with torch.no_grad():
        scores = module(*tensors)
        noise = torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))
        target = scores + noise * scores.std()

    def interpreted() -> torch.Tensor:
        # As the trainer does it: whatever is stored is computed from the masters anew.
        for each in parameters:
            interpreter.stored[each.constant] = each.current()
        return as_tensor(interpreter.run(feeds)[output])

    ours = step_of(interpreted, [each.master for each in parameters], target)
    by_hand = step_of(lambda: module(*tensors), list(module.parameters()), target)
    return ours, by_hand


def row_of(folder: Path, case: Case) -> str:
    """Medians of both steps in milliseconds, and what ours costs more, as a line of the table.

    Raises:
        ModelError: the two networks do not compute the same.
    """
    model = io.load(folder / "model.onnx")
    sides = steps_of(model, case, feeds_of(folder, model, case))
    first = [step() for step in sides]
    if abs(first[0] - first[1]) > TOLERANCE * abs(first[1]):
        raise ModelError(f"{case.name}: the first losses differ, {first[0]:g} and {first[1]:g}")
    rng = np.random.default_rng(0)
    times: list[list[float]] = [[], []]
    for _ in range(WARM_UP + ROUNDS):
        for side in rng.permutation(2):
            start = time.perf_counter_ns()
            sides[side]()
            times[side].append((time.perf_counter_ns() - start) / 1e6)
    ours, by_hand = (statistics.median(each[WARM_UP:]) for each in times)
    return f"| {case.name} | {by_hand:.1f} | {ours:.1f} | {ours / by_hand:.2f} |"


def markdown(cache: Path, subjects: Sequence[str], command: str) -> str:
    """The comparison as a page."""
    import torch

    torch.set_num_threads(1)
    lines = ["# A training step", "", environment_line(), f"PyTorch {torch.__version__}."]
    lines += [f"Made by `{command}`.", ""]
    lines += [
        f"Forward, divergence from a teacher's scores, backward, Adam; medians of {ROUNDS} steps.",
        "",
        "| model and batch | hand-written, ms | from the ONNX file, ms | ratio |",
        "|---|---:|---:|---:|",
    ]
    for subject in subjects:
        lines.append(row_of(find_subject(cache, subject), CASES[subject]))
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page."""
    parser = page_parser("training_step", __doc__)
    add_subjects(parser, CASES)
    options = parser.parse_args(arguments)
    command = command_line("training_step", arguments)
    return write_page(options.output, lambda: markdown(options.cache, options.subjects, command))


if __name__ == "__main__":
    sys.exit(main())
