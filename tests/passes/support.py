"""Running one pass the way the manager does, with the questions every test asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import elements, io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Constant, Model
from onnxcompress.pass_base import Pass, PassReport
from onnxcompress.pass_manager import PassManager
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.target import Target
from tests.helpers import assert_same_outputs, outputs, proto

Array = np.ndarray


def opset(version: int) -> str:
    """The header of a model in that standard operator set."""
    return f'<ir_version: 8, opset_import: ["" : {version}]> '


def model_of(text: str, **weights: Array) -> Model:
    """ONNX text as a model, with stored tensors that are too large to write down."""
    message = proto(text)
    message.graph.initializer.extend(
        elements.from_array(np.asarray(array), name) for name, array in weights.items()
    )
    return import_model(message)


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Seeded standard normal values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def apply(
    pass_: Pass,
    model: Model,
    *,
    data: Mapping[str, Array] | None = None,
    target: Target = Target.X86_VNNI,
) -> PassReport:
    """Runs one pass under the manager and shows that a second run changes nothing."""
    dataset = None
    if data is not None:
        dataset = dataset_of(data, Session(io.to_bytes(model)).inputs)
    context = RuntimeContext(dataset, target=target)
    report = PassManager([pass_]).run(model, context)[0]
    again = PassManager([pass_]).run(model, context)[0]
    assert not again.modified, again.changes
    return report


def apply_exact(
    pass_: Pass, model: Model, feeds: Mapping[str, Array], *, tolerance: float = 0.0
) -> PassReport:
    """`apply`, with outputs equal to those before."""
    before = outputs(model, feeds)
    report = apply(pass_, model)
    assert_same_outputs(before, outputs(model, feeds), tolerance)
    return report


def reasons(report: PassReport) -> dict[str, str]:
    """Why each node was left alone, by node name."""
    return {skip.node: skip.reason for skip in report.skips}


def stored(model: Model) -> dict[str, Array]:
    """Every stored tensor in use, by name."""
    return {constant.name: constant.values for constant in model.constants()}


def stored_input(model: Model, node_name: str, index: int) -> Array:
    """The stored tensor that a node reads."""
    found = next(node for _, node in model.nodes() if node.name == node_name)
    tensor = found.inputs[index]
    assert isinstance(tensor, Constant)
    return tensor.values


def sqnr(reference: Array, values: Array) -> float:
    """Signal to quantization noise, in decibels."""
    reference, values = reference.astype(np.float64), values.astype(np.float64)
    noise = np.square(reference - values).sum()
    return float(10 * np.log10(np.square(reference).sum() / noise)) if noise else np.inf
