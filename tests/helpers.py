"""Text in, ops out, numbers equal."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import parser

from onnxcompress.data.casting import is_float
from onnxcompress.data.synthetic import synthetic_dataset
from onnxcompress.ir import io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model, Node, Tensor
from onnxcompress.runtime.session import Session, SessionSettings
from onnxcompress.runtime.too_old import require_runtime

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
"""What `proto` puts before a graph that comes without a header."""


_NODE_NAME = re.compile(r"(?<!\w)\[([^\]]+)\](\s*(?!,)(\w*)[\w, ]*=)")
"""A node's name in ONNX text, and what follows: the name of its first output, the others, `=`."""


_LEFT_OUT_FIRST = re.compile(r"([({]\s*),")
"""Where a list of inputs or outputs begins with one that is left out."""

_NONE = "left_out_first"


def proto(text: str) -> onnx.ModelProto:
    """ONNX text as a message; the header may be left out."""
    return parse_model(text if text.lstrip().startswith("<ir_version") else HEAD + text)


def parse_model(text: str) -> onnx.ModelProto:
    """`onnx.parser.parse_model`; what onnx before 1.17 cannot read is put in by hand."""
    try:
        return parser.parse_model(text)
    except parser.ParseError:
        named = [(name, output) for name, _, output in _NODE_NAME.findall(text)]
        leading = _LEFT_OUT_FIRST.search(text)
        if not (named or leading):
            raise
    plain = _LEFT_OUT_FIRST.sub(rf"\1{_NONE},", _NODE_NAME.sub(r"\2", text))
    model = parser.parse_model(plain)
    for node in _nodes(model.graph):
        for side in (node.input, node.output):
            side[:] = ["" if name == _NONE else name for name in side]
        found = next((each for each in named if each[1] == (*node.output, "")[0]), None)
        if found is not None:
            named.remove(found)
            node.name = found[0]
    return model


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


def parse(text: str) -> Model:
    """ONNX text as a model; the header may be left out."""
    return import_model(proto(text))


def exported(model: Model) -> onnx.ModelProto:
    """The message that `model` is written as."""
    return onnx.load_from_string(io.to_bytes(model))


def reload(model: Model) -> Model:
    """`model` after a round trip through its bytes."""
    return import_model(exported(model))


def outputs(model: Model | onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every output by name, without onnxruntime's optimizations."""
    if isinstance(model, Model):
        require_runtime(model)
    raw = io.to_bytes(model) if isinstance(model, Model) else model.SerializeToString()
    return Session(raw, SessionSettings(optimize=False, prepack=False)).run(feeds)


def run(model: Model | onnx.ModelProto, **feeds: Any) -> Any:
    """The output if there is one, else all of them by name."""
    values = outputs(model, feeds)
    return next(iter(values.values())) if len(values) == 1 else values


def random_feeds(session: Session) -> dict[str, np.ndarray]:
    """Seeded inputs for one run."""
    return next(synthetic_dataset(session.inputs, 1, seed=0).batches(1)).feeds


def ops(model: Model) -> list[str]:
    """Operators in execution order, those of bodies after their node's graph."""
    return [node.op for _, node in model.nodes()]


def node(model: Model, name: str) -> Node:
    """The node of that name."""
    return next(node for _, node in model.nodes() if node.name == name)


def tensor(model: Model, name: str) -> Tensor:
    """The tensor of that name."""
    found = {
        tensor.name: tensor
        for graph in model.graphs()
        for tensor in [
            *graph.inputs,
            *graph.initializers,
            *(tensor for node in graph.nodes for tensor in [*node.inputs, *node.outputs]),
        ]
    }
    return found[name]


def assert_same_outputs(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], tolerance: float = 0.0
) -> None:
    """Names, element types, shapes and values agree, sequences and maps included."""
    assert list(before) == list(after)
    for name, value in before.items():
        other = after[name]
        assert value.dtype == other.dtype, name
        if value.dtype == object:
            assert repr(value.tolist()) == repr(other.tolist()), name
        elif tolerance:
            assert value.shape == other.shape, name
            np.testing.assert_allclose(other, value, rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            nan = is_float(value.dtype)  # of numpy and of ml_dtypes
            assert np.array_equal(value, other, equal_nan=nan), name
