"""A small network whose nodes differ in what quantization does to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tests.helpers import proto

TEXT = """g (float[N,16] x) => (float[N,8] y) {
  a = MatMul(x, plain)
  b = Relu(a)
  c = MatMul(b, spiky)
  d = Relu(c)
  y = MatMul(d, last)
}"""


def weights() -> dict[str, np.ndarray]:
    """Three weights; one value of `spiky` is so large that its channel has few levels left."""
    rng = np.random.default_rng(0)
    plain, spiky, last = (
        rng.standard_normal(shape).astype(np.float32) / 4 for shape in ((16, 32), (32, 32), (32, 8))
    )
    spiky[0] *= 100  # row 0 reads what is next to nothing, but sets the scales of all channels
    plain[:, 0] *= 0.01
    return {"plain": plain, "spiky": spiky, "last": last}


def network() -> onnx.ModelProto:
    """The network; nodes are called `plain`, `spiky` and `last` after the weight they read."""
    message = proto(TEXT)
    stored = weights()
    message.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in stored.items()
    )
    for node in message.graph.node:
        node.name = node.input[1] if node.op_type == "MatMul" else f"relu_{node.output[0]}"
    return message


def write(folder: Path, samples: int = 24) -> tuple[Path, Path]:
    """The network and data as files: `model.onnx` and `data.npz`."""
    onnx.save(network(), folder / "model.onnx")
    rng = np.random.default_rng(1)
    np.savez(folder / "data.npz", x=rng.standard_normal((samples, 16)).astype(np.float32))
    return folder / "model.onnx", folder / "data.npz"


def infer(values: np.ndarray, stored: dict[str, np.ndarray]) -> np.ndarray:
    """What the network gives, in float64."""
    hidden = np.maximum(values.astype(np.float64) @ stored["plain"], 0)
    result: np.ndarray = np.maximum(hidden @ stored["spiky"], 0) @ stored["last"]
    return result
