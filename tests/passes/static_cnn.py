"""A small convolutional network, and how to read what quantize-static made of it."""

import numpy as np
import onnx

from onnxcompress.ir.model import Constant, Model
from tests.helpers import exported, node, outputs, tensor

from .support import Array, model_of, normal

IMAGES = normal(16, 3, 8, 8)

CNN = """g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
  [c1] h1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)  [r1] h2 = Relu(h1)
  [c2] h3 = Conv <pads = [1, 1, 1, 1]> (h2, w2)  [add] h4 = Add(h3, h2)  [r2] h5 = Relu(h4)
  [pool] h6 = GlobalAveragePool(h5)  [flat] h7 = Flatten(h6)  [head] y = Gemm %s (h7, w3, b3) }"""
WEIGHTS = {
    "w1": normal(16, 3, 3, 3, seed=1),
    "b1": normal(16, seed=2),
    "w2": normal(16, 16, 3, 3, seed=3) / 10,
    "w3": normal(16, 5, seed=4),
    "b3": normal(5, seed=5),
}


def cnn(flag: int = 0) -> Model:
    w3 = WEIGHTS["w3"].T.copy() if flag else WEIGHTS["w3"]
    return model_of(CNN % f"<transB = {flag}>", **{**WEIGHTS, "w3": w3})


def activations_of(model: Model, names: list[str], data: Array = IMAGES) -> dict[str, Array]:
    """Float values of some tensors on the calibration data."""
    proto = exported(model)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return outputs(proto, {"x": data})


def qparams_of(model: Model, source: str) -> tuple[float, int, np.dtype]:
    """Scale and zero point of the QuantizeLinear that reads the tensor `source`."""
    quantizer = next(r for r in tensor(model, source).outputs if r.op == "QuantizeLinear")
    scale, zero_point = quantizer.inputs[1:]
    assert isinstance(scale, Constant) and isinstance(zero_point, Constant)
    return float(scale.values), int(zero_point.values), zero_point.dtype


def weight_of(model: Model, node_name: str, index: int = 1) -> tuple[Array, Array, int]:
    """Integers, scales and axis of the DequantizeLinear at a node's input."""
    dequantizer = node(model, node_name).inputs[index].inputs[0]
    assert dequantizer.op == "DequantizeLinear"
    integers, scale = dequantizer.inputs[:2]
    assert isinstance(integers, Constant) and isinstance(scale, Constant)
    return integers.values, scale.values, dequantizer.int_attr("axis", 1)
