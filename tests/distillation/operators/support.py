"""One node: against onnxruntime, and its gradients against central differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch

from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.values import as_tensor, to_numpy, to_torch
from onnxcompress.ir.from_proto import import_model
from tests import helpers

Inputs = Sequence[np.ndarray | None]


def node_model(
    op: str,
    inputs: Inputs,
    outputs: int | Sequence[int] = 1,
    *,
    opset: int = 21,
    domain: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node.

    Args:
        op: its operator.
        inputs: gives the types and ranks of the graph's inputs i0, i1, ...; None is omitted.
        outputs: how many it has, or which positions are asked for: o0, o1, ...
        opset: of the standard operators.
        domain: the operator's.
        attributes: the node's.
    """
    wanted = range(outputs) if isinstance(outputs, int) else outputs
    names = [f"o{at}" if at in wanted else "" for at in range(max(wanted) + 1)]
    read = ["" if each is None else f"i{at}" for at, each in enumerate(inputs)]
    node = onnx.helper.make_node(op, read, names, name="n", domain=domain, **attributes)
    given = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(each.dtype), each.shape
        )
        for name, each in zip(read, inputs, strict=True)
        if each is not None
    ]
    found = [onnx.ValueInfoProto(name=name) for name in names if name]
    graph = onnx.helper.make_graph([node], "g", given, found)
    domains = [onnx.helper.make_opsetid("", opset)]
    if domain:
        domains.append(onnx.helper.make_opsetid(domain, 1))
    version = 11 if opset > 22 else 10
    return onnx.helper.make_model(graph, opset_imports=domains, ir_version=version)


def feeds_of(inputs: Inputs) -> dict[str, np.ndarray]:
    """The model's inputs by name."""
    return {f"i{at}": each for at, each in enumerate(inputs) if each is not None}


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model to import: an import empties its message."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def ours(model: onnx.ModelProto, inputs: Inputs) -> dict[str, np.ndarray]:
    """The outputs as the interpreter computes them."""
    with torch.no_grad():
        found = Interpreter(import_model(copied(model))).run(feeds_of(inputs))
    return {name: to_numpy(as_tensor(value)) for name, value in found.items()}


def check(
    op: str,
    inputs: Inputs,
    outputs: int | Sequence[int] = 1,
    *,
    tolerance: float = 1e-5,
    expected: Sequence[np.ndarray] | None = None,
    **rest: Any,
) -> None:
    """The outputs equal onnxruntime's (or those expected): shapes, types and values.

    Args:
        op: an operator; see `node_model` for the other arguments.
        inputs: what the node reads.
        outputs: see `node_model`.
        tolerance: relative and absolute; 0 for bit by bit.
        expected: instead of onnxruntime's.
        rest: opset, domain and attributes.
    """
    model = node_model(op, inputs, outputs, **rest)
    found = ours(model, inputs)
    if expected is None:
        wanted = helpers.outputs(model, feeds_of(inputs))
    else:
        wanted = dict(zip(found, expected, strict=True))
    helpers.assert_same_outputs(wanted, found, tolerance)


def check_gradients(
    op: str,
    inputs: Inputs,
    outputs: int | Sequence[int] = 1,
    *,
    wrt: Sequence[int] | None = None,
    **rest: Any,
) -> None:
    """The gradients equal central differences in float64.

    Args:
        op: an operator; see `node_model` for the other arguments.
        inputs: what the node reads.
        outputs: see `node_model`.
        wrt: which inputs; all of float32 by default.
        rest: opset, domain and attributes.
    """
    model = import_model(node_model(op, inputs, outputs, **rest))
    interpreter = Interpreter(model, precision=torch.float64)
    if wrt is None:
        wrt = [
            at for at, each in enumerate(inputs) if each is not None and each.dtype == np.float32
        ]
    feeds = {name: to_torch(each, torch.float64) for name, each in feeds_of(inputs).items()}
    names = [f"i{at}" for at in wrt]

    def function(*varied: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = interpreter.run({**feeds, **dict(zip(names, varied, strict=True))})
        return tuple(each for each in map(as_tensor, found.values()) if each.is_floating_point())

    varied = [feeds[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(function, varied, fast_mode=True)
