"""A model of any size, written and computed without ever being in memory whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FACTOR: Final = 0.75
_ROWS_AT_ONCE: Final = 256
_OPSET: Final = 17
_INPUT, _OUTPUT = "input", "output"


@dataclass(frozen=True, kw_only=True)
class LargeModel:
    """A stack of `Relu(FACTOR * (x W + b))`, its weights in a file beside the model.

    Attributes:
        folder: where model.onnx and model.onnx.data lie.
        width: length of each row of x; each W is square.
        layers: how many there are.
        factors: in how many layers, counted from the first, there is a factor.
    """

    folder: Path
    width: int
    layers: int
    factors: int = 1

    @property
    def path(self) -> Path:
        """The model."""
        return self.folder / "model.onnx"

    @property
    def data_path(self) -> Path:
        """Its weights."""
        return self.folder / "model.onnx.data"

    @property
    def weight_bytes(self) -> int:
        """What the weights take."""
        return self.layers * 4 * self.width**2

    def bias(self, layer: int) -> np.ndarray:
        """The layer's bias; two layers each share their values, for clean-up to find."""
        rng = np.random.default_rng(layer // 2)
        return rng.uniform(-0.1, 0.1, self.width).astype(np.float32)

    def weight(self, layer: int) -> np.ndarray:
        """The layer's weight, mapped from the file."""
        offset, shape = layer * 4 * self.width**2, (self.width, self.width)
        return np.memmap(self.data_path, np.float32, "r", offset=offset, shape=shape)

    def inputs(self, rows: int) -> np.ndarray:
        """Rows to run."""
        rng = np.random.default_rng(0)
        return rng.standard_normal((rows, self.width), dtype=np.float32)

    def write(self) -> None:
        """Writes both files, a slice of a weight at a time."""
        rng = np.random.default_rng(1)
        with self.data_path.open("wb") as file:
            for layer in range(self.layers):
                # Keeps values from growing or shrinking, as half of them end at the Relu.
                scale = np.float32((2 / self.width) ** 0.5 / self._factor(layer))
                for start in range(0, self.width, _ROWS_AT_ONCE):
                    shape = (min(_ROWS_AT_ONCE, self.width - start), self.width)
                    file.write((rng.standard_normal(shape, dtype=np.float32) * scale).tobytes())
        graph = onnx.GraphProto(name="large")
        graph.input.append(_matrix(_INPUT, self.width))
        graph.output.append(_matrix(_OUTPUT, self.width))
        tensor = _INPUT
        for layer in range(self.layers):
            tensor = self._add_layer(graph, layer, tensor)
        graph.node.append(helper.make_node("Identity", [tensor], [_OUTPUT]))
        opsets = [helper.make_opsetid("", _OPSET)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), self.path)

    def _factor(self, layer: int) -> float:
        return FACTOR if layer < self.factors else 1.0

    def _add_layer(self, graph: onnx.GraphProto, layer: int, source: str) -> str:
        weight, bias = f"weight_{layer}", f"bias_{layer}"
        stored = graph.initializer.add(
            name=weight,
            dims=[self.width] * 2,
            data_type=TensorProto.FLOAT,
            data_location=TensorProto.EXTERNAL,
        )
        length = 4 * self.width**2
        for key, value in (("offset", layer * length), ("length", length)):
            stored.external_data.add(key=key, value=str(value))
        stored.external_data.add(key="location", value=self.data_path.name)
        graph.initializer.append(numpy_helper.from_array(self.bias(layer), bias))

        def add(op: str, *inputs: str, **attrs: Any) -> str:
            output = f"{op}_{layer}_{len(graph.node)}"
            graph.node.append(helper.make_node(op, inputs, [output], name=output, **attrs))
            return output

        tensor = add("Add", add("MatMul", source, weight), bias)
        if self._factor(layer) != 1:
            half = add("Constant", value_float=FACTOR / 2)
            tensor = add("Mul", tensor, add("Add", half, half))
        return add("Identity", add("Relu", tensor))

    def reference(self, x: np.ndarray, *, rounded: bool) -> np.ndarray:
        """The result by numpy, a weight at a time.

        Args:
            x: [rows, width].
            rounded: with weights rounded to int8, a scale for each column.
        """
        for layer in range(self.layers):
            factor = np.float32(self._factor(layer))
            weight = self.weight(layer) * factor
            if rounded:
                scale = np.abs(weight).max(axis=0) / np.float32(127)
                weight = np.rint(weight / scale) * scale
            x = np.maximum(x @ weight + self.bias(layer) * factor, 0)
        return x


def _matrix(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
