"""LSTM, GRU and RNN with their weights W and R stored as integers.

Rounding R is harmless, as the state that it multiplies lies within -1 and 1. What W multiplies may
span many decades (spectra in power, say), and the gates feel the smallest of it: in a speaker
encoder of three LSTMs, rounding the input of the first to 8 bits takes the equal-error rate from 5
to 31 %, and rounding its W to 8 bits a row from 5 to 7 %, while the other two lose nothing.

Source: ONNX LSTM, GRU, RNN (opset 7-22); onnxruntime's contrib operator DynamicQuantizeLSTM, since
version 1; measured with 1.31.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Node, Tensor, Variable
from onnxcompress.qdq.candidates import RECURRENT_OPS, why_not_finite, why_not_float32
from onnxcompress.qdq.insert import FLOAT
from onnxcompress.quantization.granularity import PerBlock, PerChannel
from onnxcompress.quantization.qparams import QParams, quantize, symmetric_qparams
from onnxcompress.quantization.saturation import pair_safe_qparams
from onnxcompress.target import Int8Traits

RECURRENT_WEIGHTS = (1, 2)
"""Inputs W, [directions, rows, inputs], and R, [directions, rows, states]."""

_INPUT = 0
_W, _R = RECURRENT_WEIGHTS
_LSTM_INPUTS = 8
_LSTM_OUTPUTS = ("Y", "Y_h", "Y_c")
_FEWEST_BITS = 8
_BITS_WITHOUT_BOUND = 16
_FLOAT_TYPE = 1

_SATURATING = frozenset({"Tanh", "Sigmoid", "HardSigmoid", "Softsign", "Softmax", "Erf"})
_DATA_INPUTS: Mapping[str, int | None] = {
    **dict.fromkeys(("Identity", "Dropout", "Cast", "Squeeze", "Unsqueeze", "Transpose"), 1),
    **dict.fromkeys(("Reshape", "Flatten", "Slice", "Split", "Gather", "Expand", "Tile"), 1),
    **dict.fromkeys(("Concat", "Add", "Sub", "Mul"), None),
}
"""Operators whose results are bounded if their data is: how many leading inputs that is, or all."""


def has_bounded_input(node: Node) -> bool:
    """Whether what a recurrent node reads is bounded by what the graph computes it with.

    A state of another recurrent node is, so is what comes from Tanh and its like, and the rows of a
    stored table; graph inputs and what Conv or MatMul give are not.
    """
    waiting: list[Tensor] = [node.inputs[_INPUT]]
    seen = set(waiting)
    while waiting:
        tensor = waiting.pop()
        if isinstance(tensor, Constant):
            continue
        writer = query.producer(tensor)
        if writer is None:
            return False
        if _gives_state(writer) or (writer.domain in STANDARD and writer.op in _SATURATING):
            continue
        if writer.domain not in STANDARD or writer.op not in _DATA_INPUTS:
            return False
        data = [*writer.inputs][: _DATA_INPUTS[writer.op]]
        waiting.extend(tensor for tensor in data if tensor not in seen)
        seen.update(data)
    return True


def _gives_state(node: Node) -> bool:
    known = node.op == "DynamicQuantizeLSTM" or (
        node.domain in STANDARD and node.op in RECURRENT_OPS
    )
    return known and "activations" not in node.attrs  # Relu, say, has no bound


def why_not_stored(node: Node, min_elements: int) -> str | None:
    """Why the weights of a recurrent node stay float; None if they need not.

    Args:
        node: LSTM, GRU or RNN.
        min_elements: of W and R together.
    """
    weights = [query.constant(node, index) for index in RECURRENT_WEIGHTS]
    stored = [weight for weight in weights if weight is not None]
    if len(stored) < len(weights):
        return "its weights are not stored in the model"
    for weight in stored:
        reason = why_not_float32(weight, 0)
        if reason is not None:
            return reason
    elements = sum(weight.size for weight in stored)
    if elements < min_elements:
        return f"{elements} elements < min_elements={min_elements}"
    return next((reason for weight in stored if (reason := why_not_finite(weight))), None)


def store_weights(edit: Editor, node: Node, bits: int = 8) -> None:
    """LSTM(x, W, R)  ->  LSTM(x, Mul(Cast(W_int8), scale), Mul(Cast(R_int8), scale)).

    One scale for each row of each direction. W takes 16 bits where nothing bounds what it
    multiplies, see `has_bounded_input`. onnxruntime computes Cast and Mul once, when the session
    loads, and packs the weights as if they had been stored as float32. A DequantizeLinear it would
    run at every call, and the LSTM could not pack its weights: 1.5 times slower at a batch of 8.

    Args:
        edit: records the change.
        node: one that `why_not_stored` has nothing against.
        bits: 8 or 16; fewer count as 8.
    """
    bounded = has_bounded_input(node)
    for index in RECURRENT_WEIGHTS:
        weight = query.constant(node, index)
        assert weight is not None
        width = max(bits, _FEWEST_BITS if index == _R or bounded else _BITS_WITHOUT_BOUND)
        real = _restored(edit, weight, width, node)
        edit.set_input(node, index, real, f"{weight.name} stored as int{width}")


def _restored(edit: Editor, weight: Constant, bits: int, near: Node) -> Variable:
    values = weight.values  # [directions, rows, inputs]
    qparams = symmetric_qparams(values, PerBlock(2, values.shape[2]), bits)
    integers = edit.shared(f"{weight.name}_quantized", quantize(values, qparams))
    scale = edit.shared(f"{weight.name}_scale", qparams.scale)
    unscaled = edit.add(
        "Cast",
        [integers],
        near=near,
        base=f"{weight.name}_unscaled",
        attrs={"to": _FLOAT_TYPE},
        dtype=FLOAT,
        shape=values.shape,
    )
    base = f"{weight.name}_dequantized"
    return edit.add("Mul", [unscaled, scale], near=near, base=base, dtype=FLOAT, shape=values.shape)


def why_no_integer_lstm(node: Node) -> str | None:
    """Why a recurrent node with stored weights cannot run on integers; None if it can."""
    if node.op != "LSTM":
        return f"onnxruntime has no integer {node.op}"
    if node.int_attr("layout", 0):
        return "onnxruntime's integer LSTM wants steps before samples (layout=0)"
    if not has_bounded_input(node):
        name = node.inputs[_INPUT].name
        return f"nothing bounds {name!r}: rounding it to 8 bits can ruin the recurrent state"
    return None


def integer_lstm(edit: Editor, node: Node, traits: Int8Traits) -> None:
    """LSTM(x, W, R)  ->  DynamicQuantizeLSTM(x, W_int8, R_int8), one scale for each row.

    Input and state are rounded to 8 bits as they come, over the whole batch.

    Args:
        edit: records the change.
        node: one that `why_not_stored` and `why_no_integer_lstm` have nothing against.
        traits: of the target.
    """
    quantized: list[Tensor] = []
    parameters: list[Tensor] = []
    for index in RECURRENT_WEIGHTS:
        weight = query.constant(node, index)
        assert weight is not None
        each = [_row_qparams(rows, traits) for rows in weight.values]
        integers = np.stack(
            [quantize(rows, qparams).T for rows, qparams in zip(weight.values, each, strict=True)]
        )
        scale = np.stack([qparams.scale for qparams in each])
        zero_point = np.stack([qparams.zero_point for qparams in each])
        quantized.append(edit.shared(f"{weight.name}_quantized", integers))
        parameters.append(edit.shared(f"{weight.name}_scale", scale))
        parameters.append(edit.shared(f"{weight.name}_zero_point", zero_point))
    given = [None if query.is_omitted(tensor) else tensor for tensor in node.inputs]
    given += [None] * (_LSTM_INPUTS - len(given))
    outputs = [*node.outputs]
    parts = zip(outputs, _LSTM_OUTPUTS, strict=False)
    results = edit.add_many(
        "DynamicQuantizeLSTM",
        [given[_INPUT], *quantized, *given[_R + 1 :], *parameters],
        near=node,
        bases=[f"{output.name or f'{node.name}_{part}'}_integer" for output, part in parts],
        domain="com.microsoft",
    )
    results[0].inputs[0].attrs.update(
        {name: value for name, value in node.attrs.items() if name != "layout"}
    )
    for old, new in zip(outputs, results, strict=True):
        new.dtype, new.shape = FLOAT, old.shape
        if old.name:
            edit.redirect(old, new)
    edit.remove(node)


def _row_qparams(rows: np.ndarray, traits: Int8Traits) -> QParams:
    """int8 for one direction's weight [rows, inputs]; no pair of products saturates."""
    if traits.pairs_saturate:
        return pair_safe_qparams(rows, PerChannel(0), rows)
    return symmetric_qparams(rows, PerChannel(0))
