"""torch -> ONNX, the way most models in the wild were exported."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from benchmarks.subjects.errors import SubjectError

if TYPE_CHECKING:
    import torch

OPSET = 17
OUTPUT = "logits"

# Float32 sums in another order differ by about 1e-5 on logits near 10; a wrong trace by far more.
_TOLERANCE = 1e-3


def export(
    module: torch.nn.Module,
    example: dict[str, torch.Tensor],
    probes: Sequence[dict[str, torch.Tensor]],
    path: Path,
    *,
    dynamic_axes: dict[str, dict[int, str]],
    outputs: Sequence[str] = (OUTPUT,),
) -> None:
    """Export by tracing, and leave the graph as it comes out.

    The tracing exporter is chosen on purpose: it leaves Shape chains, Constant nodes and Pad nodes
    for a compressor to clean up, where the newer one simplifies the graph before writing it.

    Args:
        module: in evaluation mode, from the inputs to one float32 tensor, or a tuple of them.
        example: tensors to trace with, in the order of ``forward``'s arguments, by input name.
        probes: the same inputs with other sizes on every dynamic axis; onnxruntime must agree
            with the module on them, or SubjectError is raised.
        path: the file to write.
        dynamic_axes: names of the axes that vary, by input or output name and axis.
        outputs: names of what the module gives.
    """
    import torch

    with warnings.catch_warnings():
        # The tracing exporter warns that it is deprecated, and of each Python value it takes as
        # constant; the probe finds those that matter.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(example.values()),
            path,
            input_names=list(example),
            output_names=list(outputs),
            dynamic_axes=dynamic_axes,
            opset_version=OPSET,
            dynamo=False,
        )
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for probe in probes:
        with torch.inference_mode():
            expected = module(*probe.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        actual = session.run(outputs, {name: value.numpy() for name, value in probe.items()})
        for name, ours, theirs in zip(outputs, actual, expected, strict=True):
            error = float(np.abs(ours - theirs.numpy()).max())
            if not error <= _TOLERANCE:
                raise SubjectError(
                    f"{path.name}: {name}: export and torch differ by {error:.2g} on other shapes"
                )
