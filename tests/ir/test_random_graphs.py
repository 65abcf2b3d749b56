"""Random small graphs, however their file is written, compute the same after a round trip."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxcompress.ir.clone import clone
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from tests.helpers import assert_same_outputs, exported, outputs

pytestmark = pytest.mark.slow

UNARY = ["Neg", "Abs", "Relu", "Sigmoid", "Identity", "Tanh"]
BINARY = ["Add", "Sub", "Mul", "Max", "Min"]


@dataclass
class Builder:
    """Draws one graph; every tensor is float [2, 3], so any wiring is valid."""

    draw: st.DrawFn
    count: int = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def stored(self) -> TensorProto:
        values = self.draw(st.lists(st.floats(-4, 4, width=32), min_size=6, max_size=6))
        array = np.array(values, np.float32).reshape(2, 3)
        if self.draw(st.booleans()):
            return numpy_helper.from_array(array, self.name("w"))
        return helper.make_tensor(self.name("w"), TensorProto.FLOAT, [2, 3], array.ravel())

    def graph(self, visible: list[str], depth: int) -> onnx.GraphProto:
        visible = list(visible)
        graph = onnx.GraphProto(name=self.name("graph"))
        nodes: list[onnx.NodeProto] = []
        for _ in range(self.draw(st.integers(1, 5 - depth))):
            kind = self.draw(st.sampled_from(["unary", "binary", "stored", "constant", "if"]))
            result = self.name("t")
            if kind == "stored":
                graph.initializer.append(self.stored())
                visible.append(graph.initializer[-1].name)
                continue
            if kind == "constant":
                node = helper.make_node("Constant", [], [result], value=self.stored())
            elif kind == "if" and depth < 2:
                branches = [self.graph(visible, depth + 1) for _ in range(2)]
                node = helper.make_node(
                    "If", ["flag"], [result], then_branch=branches[0], else_branch=branches[1]
                )
            else:
                arity = 1 if kind == "unary" else 2
                op = self.draw(st.sampled_from(UNARY if arity == 1 else BINARY))
                inputs = [self.draw(st.sampled_from(visible)) for _ in range(arity)]
                node = helper.make_node(op, inputs, [result])
            node.name = self.draw(st.sampled_from(["", "same", result]))
            nodes.append(node)
            visible.append(result)
        last = self.name("o")
        nodes.append(helper.make_node("Add", [visible[-1], visible[0]], [last]))
        if not depth and self.draw(st.booleans()):
            nodes = self.draw(st.permutations(nodes))  # onnxruntime takes unsorted graphs
        graph.node.extend(nodes)
        graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, [2, 3]))
        return graph


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    graph = Builder(draw).graph(["x"], 0)
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]))
    graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, ir_version=8, opset_imports=opset)


def _forget_names(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        node.ClearField("name")
        for attribute in node.attribute:
            _forget_names(attribute.g)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(models())
def test_round_trip(message: onnx.ModelProto) -> None:
    x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    original = onnx.ModelProto()
    original.CopyFrom(message)
    _forget_names(original.graph)  # onnxruntime refuses the names that models do come with
    model = import_model(message)
    copy = clone(model)
    sort(copy.graph)
    verify(copy)
    assert len({node.name for _, node in model.nodes()}) == len(list(model.nodes()))
    once, twice = exported(model), exported(import_model(exported(model)))
    assert once == twice
    for flag in (True, False):
        feeds = {"x": x, "flag": np.array(flag)}
        expected = outputs(original, feeds)
        assert_same_outputs(expected, outputs(once, feeds))
        assert_same_outputs(expected, outputs(copy, feeds))
