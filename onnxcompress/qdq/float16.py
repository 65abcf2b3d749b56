"""Which nodes may compute in float16, and the Casts around them.

What a node takes comes from the operator's own schema: an input or output that may be float16 by
the standard becomes it, one that may not (the scales of Resize) stays float32. The tables below
name the operators that stay float32 though their schema would let them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor, Variable
from onnxcompress.ir.ops import CONTROL_FLOW_OPS, RANDOM_OPS
from onnxcompress.tensor_types import TensorTypes

HALF = np.dtype(np.float16)
FLOAT = np.dtype(np.float32)
LARGEST = float(np.finfo(np.float16).max)
"""65504, beyond which float16 is infinite."""

_HALF_TYPE, _FLOAT_TYPE = 10, 1
_OVERFLOWS = "sums or powers leave float16's range easily"
_TAKEN_APART = "onnxruntime takes it apart into smaller nodes in float16"
_TYPED = "its element type is set by an attribute"

STAYS_FLOAT32: Mapping[str, str] = {
    **dict.fromkeys(("Exp", "Pow", "CumSum", "Reciprocal"), _OVERFLOWS),
    **dict.fromkeys(("ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"), _OVERFLOWS),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp", "ReduceProd"), _OVERFLOWS),
    **dict.fromkeys(("LpNormalization", "LpPool", "GlobalLpPool"), _OVERFLOWS),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Gelu", "HardSwish", "Mish", "Celu"), _TAKEN_APART),
    **dict.fromkeys(("CastLike", "ConstantOfShape", "EyeLike", *RANDOM_OPS), _TYPED),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), "belongs to a quantized graph"),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "recurrent: rounding adds up over time steps"),
    **dict.fromkeys(CONTROL_FLOW_OPS, "holds graphs"),
}
"""Operators that go on computing in float32, with the reason."""

_BLIND = frozenset({"Shape", "Size"})
"""Operators to which it makes no difference whether they read float16."""


@dataclass
class Plan:
    """The nodes that will compute in float16, with what of each may be float16.

    Attributes:
        inputs: indices of the inputs, by node.
        written: the outputs.
    """

    inputs: dict[Node, tuple[int, ...]] = field(default_factory=dict)
    written: dict[Variable, None] = field(default_factory=dict)

    def add(self, node: Node, inputs: tuple[int, ...], outputs: Iterable[Variable]) -> None:
        """Adds a node."""
        self.inputs[node] = inputs
        self.written.update(dict.fromkeys(outputs))


def plan(
    model: Model,
    types: TensorTypes,
    magnitudes: Mapping[str, float],
    excluded: Callable[[Node], str | None],
    refuse: Callable[[Node, str], None],
) -> Plan:
    """Chooses the nodes of the main graph that will compute in float16.

    Args:
        model: is not changed.
        types: element types of its tensors.
        magnitudes: the largest magnitude seen of each float32 tensor, by name.
        excluded: why the caller wants a node left alone, or None.
        refuse: told of each candidate that stays float32, with the reason.
    """
    chosen = Plan()
    for node in model.graph.nodes:
        floats = [o for o in node.outputs if o.name and types.dtype(o) == FLOAT]
        if not floats or node.op == "Cast":  # a Cast is a border already
            continue
        slots = _slots(model, node)
        inputs, outputs = _halves(node, slots, types) if slots else ((), ())
        reason = excluded(node) or _unfit(node, inputs, outputs, magnitudes)
        if reason is None:
            chosen.add(node, inputs, outputs)
        else:
            refuse(node, reason)
    return chosen


def float_tensors(model: Model, types: TensorTypes) -> list[str]:
    """Names of the computed float32 tensors of the main graph, inputs included."""
    computed = [*model.graph.inputs, *(o for node in model.graph.nodes for o in node.outputs)]
    return [t.name for t in computed if t.name and types.dtype(t) == FLOAT]


def convert(edit: Editor, chosen: Plan) -> None:
    """Makes the planned nodes compute in float16, with Casts wherever float32 meets float16."""
    narrowed: dict[Tensor, Tensor] = {}
    for node, indices in chosen.inputs.items():
        for index in indices:
            tensor = node.inputs[index]
            if tensor in chosen.written:
                continue
            if tensor not in narrowed:
                narrowed[tensor] = _narrow(edit, tensor, node)
            edit.set_input(node, index, narrowed[tensor], f"reads {tensor.name} as float16")
    for tensor in chosen.written:
        _widen(edit, tensor, chosen)


def _narrow(edit: Editor, tensor: Tensor, reader: Node) -> Tensor:
    if isinstance(tensor, Constant):
        return edit.constant(f"{tensor.name}_float16", tensor.values.astype(HALF))
    near = query.producer(tensor) or reader
    base = f"{tensor.name}_float16"
    shape = tensor.shape
    to = {"to": _HALF_TYPE}
    return edit.add("Cast", [tensor], near=near, base=base, attrs=to, dtype=HALF, shape=shape)


def _widen(edit: Editor, tensor: Variable, chosen: Plan) -> None:
    """Declares a tensor float16 and gives those readers float32 that need it."""
    readers = query.consumers(tensor)
    keep = [r for r in readers if r.op in _BLIND or _reads_half(r, tensor, chosen)]
    shape = tensor.shape
    if len(keep) < len(readers) or edit.model.is_output(tensor):
        wide = edit.add(
            "Cast",
            [tensor],
            near=tensor.inputs[0],
            base=f"{tensor.name}_float32",
            attrs={"to": _FLOAT_TYPE},
            dtype=FLOAT,
            shape=shape,
        )
        edit.redirect(tensor, wide, keep=[*keep, wide.inputs[0]])
    tensor.dtype, tensor.envelope = HALF, None


def _reads_half(reader: Node, tensor: Variable, chosen: Plan) -> bool:
    indices = [index for index, given in enumerate(reader.inputs) if given is tensor]
    return all(index in chosen.inputs.get(reader, ()) for index in indices)


def _unfit(
    node: Node,
    inputs: tuple[int, ...],
    outputs: tuple[Variable, ...],
    magnitudes: Mapping[str, float],
) -> str | None:
    """Why a node stays float32; None if it need not."""
    if node.domain not in STANDARD:
        return f"domain {node.domain!r} is not the standard operator set"
    if node.op in STAYS_FLOAT32:
        return STAYS_FLOAT32[node.op]
    if not inputs or not outputs:
        return "the operator takes no float16"
    for tensor in [*(node.inputs[index] for index in inputs), *outputs]:
        stored = isinstance(tensor, Constant)
        largest = _magnitude(tensor) if isinstance(tensor, Constant) else magnitudes[tensor.name]
        if not largest <= LARGEST:
            seen = "holds" if stored else "reaches"
            return f"{tensor.name!r} {seen} {largest:.3g}, beyond float16's 65504"
        if isinstance(tensor, Constant) and tensor.size == 1 and 0 < largest < _SMALLEST:
            return f"{tensor.name!r} is {largest:.3g}, which float16 rounds to zero"
    return None


_SMALLEST = float(np.finfo(np.float16).smallest_subnormal) / 2
"""What is below becomes zero: an epsilon that no longer keeps a division from infinity."""


def _magnitude(constant: Constant) -> float:
    return float(np.abs(constant.values).max(initial=0.0))


@dataclass(frozen=True)
class _Slots:
    """Which inputs and outputs may be float16; the last holds for all that follow, if `open`."""

    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]
    open: bool

    def takes(self, index: int) -> bool:
        if index < len(self.inputs):
            return self.inputs[index]
        return self.open and self.inputs[-1]

    def gives(self, index: int) -> bool:
        return self.outputs[min(index, len(self.outputs) - 1)]


def _slots(model: Model, node: Node) -> _Slots | None:
    if node.domain not in STANDARD:
        return None
    schema = onnx.defs.get_schema(node.op, model.opset, "")
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}

    def both(type_name: str) -> bool:
        return {"tensor(float)", "tensor(float16)"} <= set(allowed.get(type_name, ()))

    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    return _Slots(
        tuple(both(each.type_str) for each in schema.inputs),
        tuple(both(each.type_str) for each in schema.outputs),
        bool(schema.inputs) and schema.inputs[-1].option == variadic,
    )


def _halves(
    node: Node, slots: _Slots, types: TensorTypes
) -> tuple[tuple[int, ...], tuple[Variable, ...]]:
    """The float32 inputs (indices) and outputs that may be float16."""
    inputs = tuple(
        index
        for index, tensor in enumerate(node.inputs)
        if not query.is_omitted(tensor) and types.dtype(tensor) == FLOAT and slots.takes(index)
    )
    outputs = tuple(
        output
        for index, output in enumerate(node.outputs)
        if output.name and types.dtype(output) == FLOAT and slots.gives(index)
    )
    return inputs, outputs
