"""Candidates that are worse on purpose, made with onnx alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.verdict.support import Outputs

_LEAST = 64
"""Smaller tensors are seldom weights: bounds, scales, shapes."""

# Of models of ai.onnx.ml, whose weights are attributes.
_LISTS = {"coefficients", "class_weights", "target_weights", "nodes_values"}


def noisy(original: Path, decibels: float, to: Path, seed: int = 0) -> Path:
    """The model with Gaussian noise on its weights, each tensor's power over its noise's given.

    Weights are float tensors of two dimensions or more, initializers or in Constant nodes, and
    the coefficients, thresholds and leaves of ai.onnx.ml.
    """
    model = onnx.load(original)
    random = np.random.default_rng(seed)
    for graph in _graphs(model.graph):
        for tensor in _tensors(graph):
            if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
                values = numpy_helper.to_array(tensor)
                if values.ndim > 1 and values.size >= _LEAST:
                    worse = _with_noise(values, decibels, random)
                    tensor.CopyFrom(numpy_helper.from_array(worse, tensor.name))
        for node in graph.node:
            for attribute in node.attribute:
                if node.domain == "ai.onnx.ml" and attribute.name in _LISTS:
                    floats = np.array(attribute.floats, dtype=np.float32)
                    del attribute.floats[:]
                    attribute.floats.extend(_with_noise(floats, decibels, random).tolist())
    onnx.save(model, to)
    return to


def constant(original: Path, outputs: Outputs, to: Path) -> Path:
    """A model with the same inputs and outputs that gives one answer whatever it is asked.

    Numbers are the means of the original's outputs where those have one shape; what is no float
    and what differs in shape is the first of them.
    """
    model = onnx.load(original)
    source = model.graph
    maps = {node.output[0]: node for node in source.node if node.op_type == "ZipMap"}
    nodes, initializers = [], []
    for index, output in enumerate(source.output):
        answer = [each[output.name] for each in outputs]
        name = output.name
        if name in maps:
            name = f"constant_{index}"
            zipped = helper.make_node("ZipMap", [name], [output.name], domain="ai.onnx.ml")
            zipped.attribute.extend(maps[output.name].attribute)
            nodes.append(zipped)
            answer = [np.array([list(row.values()) for row in each], "f4") for each in answer]
        value = _center([np.asarray(each) for each in answer])
        initializers.append(numpy_helper.from_array(value, f"answer_{index}"))
        nodes.insert(0, helper.make_node("Identity", [f"answer_{index}"], [name]))
    graph = helper.make_graph(nodes, "constant", source.input, source.output, initializers)
    stored = {each.name for each in source.initializer}
    inputs = [each for each in source.input if each.name not in stored]
    del graph.input[:]
    graph.input.extend(inputs)
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.save(made, to)
    return to


def _center(values: list[np.ndarray]) -> np.ndarray:
    first = values[0]
    if first.dtype.kind != "f" or any(each.shape != first.shape for each in values):
        return first
    return np.asarray(np.mean(values, axis=0, dtype=np.float64), dtype=first.dtype)


def _with_noise(values: np.ndarray, decibels: float, random: np.random.Generator) -> np.ndarray:
    loudness = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    noise = random.normal(0, loudness * 10 ** (-decibels / 20), values.shape)
    worse: np.ndarray = values + noise
    return worse.astype(values.dtype)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        if node.op_type == "Constant":
            yield from (each.t for each in node.attribute if each.name == "value")
