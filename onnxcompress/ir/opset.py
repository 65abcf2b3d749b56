"""Raising a model to a later standard operator set."""

from __future__ import annotations

import onnx
from onnx import version_converter

from onnxcompress.errors import ModelError
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import STANDARD, Constant, Model
from onnxcompress.ir.to_proto import export_model, store_inside

_BIG = 4096  # bytes; the converter reads shapes, axes and scales, never weights


def require_opset(model: Model, version: int) -> bool:
    """Rewrites the model in a later standard opset, in place, if it is older.

    Large weights do not pass through the converter, so the model's size does not matter.

    Returns:
        Whether anything was done.

    Raises:
        ModelError: a node cannot be converted; the converter's reason is given.
    """
    if model.opset >= version:
        return False
    weights = {c.name: c for c in model.graph.initializers if c.nbytes >= _BIG}

    def without_weights(constant: Constant) -> onnx.TensorProto:
        if constant.name not in weights:
            return store_inside(constant)
        onnx_type = onnx.helper.np_dtype_to_tensor_dtype(constant.dtype)
        return onnx.TensorProto(name=constant.name, dims=constant.shape, data_type=onnx_type)

    proto = export_model(model, without_weights)
    stored = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    given = {info.name for info in proto.graph.input}
    for tensor in stored:
        if tensor.name not in weights:
            proto.graph.initializer.append(tensor)
        elif tensor.name not in given:
            proto.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    before = model.opset
    try:
        converted = version_converter.convert_version(proto, version)
    except Exception as fault:  # the converter raises RuntimeError, ValueError and its own
        reason = str(fault).strip().splitlines()[0] if str(fault).strip() else repr(fault)
        raise ModelError(f"cannot be raised from opset {before} to {version}: {reason}") from fault
    _take_over(model, converted, weights, version)
    return True


def _take_over(
    model: Model, converted: onnx.ModelProto, weights: dict[str, Constant], version: int
) -> None:
    """Puts the converted graph into `model`, with the weights that were kept aside."""
    for entry in model.envelope.opset_import:
        if entry.domain in STANDARD:
            entry.version = version
    lowest = onnx.helper.find_min_ir_version_for(list(model.envelope.opset_import), True)
    model.envelope.ir_version = max(model.envelope.ir_version, lowest)
    converted.ir_version = model.envelope.ir_version
    graph = import_model(converted).graph
    for tensor in [tensor for tensor in graph.inputs if tensor.name in weights]:
        old = weights[tensor.name]
        constant = Constant(old.name, old.stored, old.envelope)
        graph.initializers.append(constant)
        for reader in dict.fromkeys(tensor.outputs):
            for index, read in enumerate(list(reader.inputs)):
                if read is tensor:
                    reader.inputs[index] = constant
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name not in weights]
    model.graph = graph
