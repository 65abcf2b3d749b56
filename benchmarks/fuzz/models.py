"""Small models, and what can be wrong with one: changes of structure, not of bytes alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

import onnxcompress

DEMO: Final = Path(onnxcompress.__file__).parent / "demo_assets" / "digits.onnx"

_TEXTS: Final = (
    """<ir_version: 8, opset_import: ["" : 13]> g (float[N, 2, 4, 4] x) => (float[N, c] y) {
    a = Conv(x, w)  b = BatchNormalization(a, s, t, m, v)  c = Relu(b)  d = GlobalAveragePool(c)
    e = Flatten(d)  y = Gemm <transB = 1> (e, k, t) }""",
    """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, 4] x, bool p) => (float[N, 3, 4] y) {
    a = MatMul(x, q)  b = LayerNormalization(a, r, r)  c = Transpose <perm = [0, 2, 1]> (b)
    d = MatMul(b, c)  e = Softmax(d)  f = MatMul(e, a)
    y = If (p) <then_branch = t () => (float[N, 3, 4] o) { o = Add(f, x) },
                else_branch = u () => (float[N, 3, 4] z) { z = Mul(f, x) }> }""",
    """<ir_version: 8, opset_import: ["" : 13]> g (float[N, 4] x) => (float[N, 4] y, int64[2] n) {
    n = Shape(x)  i = Constant <value_ints = [0]> ()  j = Gather(n, i)
    l = Constant <value_ints = [4]> ()  h = Concat <axis = 0> (j, l)  a = Reshape(x, h)
    b = MatMul(a, q)  o = Constant <value_float = 0.5> ()  c = Mul(b, o)  e = Erf(c)
    f = Identity(e)  y = Clip(f) }""",
    """<ir_version: 8, opset_import: ["" : 13]> g (float[3, N, 4] x) => (float[3, d, N, 2] y) {
    y, h, c = LSTM <hidden_size = 2> (x, lw, lr) }""",
    """<ir_version: 8, opset_import: ["" : 13]> g (int64[N, 3] i, float[N, 3, 4] x)
    => (float[N, 3, 4] y) { e = Gather(table, i)  a = Add(e, x)
    b = QuantizeLinear(a, one, zp)  c = DequantizeLinear(b, one, zp)  y = MatMul(c, q) }""",
)
_SHAPES: Final = {
    **{"w": (2, 2, 3, 3), "s": (2,), "t": (2,), "m": (2,), "v": (2,), "k": (2, 2), "q": (4, 4)},
    **{"r": (4,), "lw": (1, 8, 4), "lr": (1, 8, 2), "table": (16, 4), "one": (), "zp": ()},
}
_OPS: Final = (
    *("Add", "Concat", "Conv", "Expand", "Gather", "Gemm", "Identity", "If", "Loop", "LSTM"),
    *("MatMul", "MaxPool", "Pad", "Range", "ReduceMean", "Reshape", "Resize", "Shape", "Slice"),
    *("Softmax", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where", "Nothing"),
    *("ConstantOfShape", "DequantizeLinear", "QuantizeLinear", "NonZero", "Scan", "SequenceAt"),
)
_NUMBERS: Final = (0, 1, -1, 2, 3, 7, 8, 127, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 62)
_NAMES: Final = ("", "x", "y", "ü ✓", "a\0b", "*[?]", "../up", "-o", "n" * 300, "\n")


def base_models() -> list[ModelProto]:
    """Models that are as they should be."""
    import numpy as np

    found = [onnx.load(DEMO)]
    for text in _TEXTS:
        model = onnx.parser.parse_model(text)
        rng = np.random.default_rng(0)
        used = {name for node in model.graph.node for name in node.input}
        for name, shape in _SHAPES.items():
            if name in used:
                kind = np.int8 if name == "zp" else np.float32
                value = (np.abs(rng.normal(size=shape)) + 0.1).astype(kind)
                model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        found.append(model)
    return found


def changed_model(rng: random.Random, models: Sequence[ModelProto]) -> bytes:
    """A model with up to four things wrong, serialized; sometimes its bytes too."""
    model = ModelProto()
    model.CopyFrom(rng.choice(models))
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_CHANGES)(rng, model)
    raw = model.SerializeToString()
    return changed_bytes(rng, raw) if rng.random() < 0.1 else raw


def changed_bytes(rng: random.Random, raw: bytes) -> bytes:
    """Bytes that are cut, overwritten, doubled or moved."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        span = rng.choice((1, 1, 1, 4, 64, 1000))
        kind = rng.random()
        if kind < 0.5:
            data[at : at + span] = rng.randbytes(min(span, len(data) - at))
        elif kind < 0.7:
            del data[at : at + span]
        elif kind < 0.9:
            data[at:at] = data[at : at + span]
        else:
            del data[at:]
    return bytes(data)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attr in node.attribute:
            if attr.type == AttributeProto.GRAPH:
                yield from _graphs(attr.g)


def _graph(rng: random.Random, model: ModelProto) -> GraphProto:
    return rng.choice(list(_graphs(model.graph)))


def _node(rng: random.Random, model: ModelProto) -> NodeProto:
    nodes = [node for graph in _graphs(model.graph) for node in graph.node]
    return rng.choice(nodes) if nodes else model.graph.node.add(op_type="Identity")


def _any_name(rng: random.Random, model: ModelProto) -> str:
    names = [
        name for graph in _graphs(model.graph) for n in graph.node for name in (*n.input, *n.output)
    ]
    return rng.choice([*_NAMES, *names, *names, *names])


def _wire(rng: random.Random, model: ModelProto) -> None:
    node = _node(rng, model)
    side = rng.choice((node.input, node.output))
    kind = rng.random()
    if side and kind < 0.6:
        side[rng.randrange(len(side))] = _any_name(rng, model)
    elif side and kind < 0.8:
        del side[rng.randrange(len(side))]
    else:
        side.append(_any_name(rng, model))


def _order(rng: random.Random, model: ModelProto) -> None:
    nodes = list(_graph(rng, model).node)
    graph = _graph(rng, model)
    kind = rng.random()
    if kind < 0.3:
        rng.shuffle(nodes)
    elif kind < 0.6 and nodes:
        del nodes[rng.randrange(len(nodes))]
    elif nodes:
        nodes.insert(rng.randrange(len(nodes)), rng.choice(nodes))
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _operator(rng: random.Random, model: ModelProto) -> None:
    node = _node(rng, model)
    if rng.random() < 0.8:
        node.op_type = rng.choice(_OPS)
    else:
        node.domain = rng.choice(("", "ai.onnx", "com.microsoft", "ai.onnx.ml", "own"))


def _attribute(rng: random.Random, model: ModelProto) -> None:
    node = _node(rng, model)
    if not node.attribute or rng.random() < 0.3:
        name = rng.choice(("axis", "axes", "perm", "group", "to", "value", "body", "hidden_size"))
        values: tuple[Any, ...] = (
            rng.choice(_NUMBERS),
            [rng.choice(_NUMBERS)],
            0.5,
            "text",
            [0, 1],
        )
        node.attribute.append(onnx.helper.make_attribute(name, rng.choice(values)))
        return
    attr = rng.choice(node.attribute)
    kind = rng.random()
    if kind < 0.3:
        node.attribute.remove(attr)
    elif kind < 0.5:
        attr.name = rng.choice((*_NAMES, "axis", "axes"))
    elif kind < 0.6:
        attr.type = rng.randrange(15)  # type: ignore[assignment]
    elif attr.type == AttributeProto.INTS:
        values_ = [*attr.ints, rng.choice(_NUMBERS)]
        rng.shuffle(values_)
        attr.ints[:] = values_[: rng.randint(0, len(values_))]
    else:
        attr.i = rng.choice(_NUMBERS)


def _tensor(rng: random.Random, model: ModelProto) -> None:
    tensors = list(model.graph.initializer)
    if not tensors:
        return
    tensor = rng.choice(tensors)
    kind = rng.random()
    if kind < 0.35:
        dims = [*tensor.dims, rng.choice(_NUMBERS)]
        rng.shuffle(dims)
        tensor.dims[:] = dims[: rng.randint(0, len(dims))]
    elif kind < 0.55:
        tensor.data_type = rng.randrange(30)
    elif kind < 0.7:
        tensor.raw_data = tensor.raw_data[: rng.randint(0, len(tensor.raw_data))]
    elif kind < 0.8:
        tensor.name = _any_name(rng, model)
    elif kind < 0.9:
        tensor.raw_data = rng.choice((b"\xff", b"\x7f", b"\0")) * len(tensor.raw_data)
    else:
        tensor.data_location = TensorProto.EXTERNAL
        for key in ("location", "offset", "length"):
            value = rng.choice((*_NAMES, "/etc/passwd", *map(str, _NUMBERS)))
            tensor.external_data.add(key=key, value=value)


def _ends(rng: random.Random, model: ModelProto) -> None:
    graph = _graph(rng, model)
    values = rng.choice((graph.input, graph.output))
    kind = rng.random()
    if not values or kind < 0.15:
        values.add(name=_any_name(rng, model))
        return
    value = rng.choice(values)
    if kind < 0.3:
        values.remove(value)
    elif kind < 0.45:
        value.name = _any_name(rng, model)
    elif kind < 0.6:
        value.type.tensor_type.elem_type = rng.randrange(30)
    else:
        dims = value.type.tensor_type.shape.dim
        if dims and rng.random() < 0.8:
            rng.choice(dims).dim_value = rng.choice(_NUMBERS)
        else:
            dims.add(dim_param=rng.choice(_NAMES))


def _header(rng: random.Random, model: ModelProto) -> None:
    kind = rng.random()
    if kind < 0.3:
        model.ir_version = rng.choice((0, 1, 3, 4, 7, 10, 13, 99, 1 << 40))
    elif kind < 0.8 and model.opset_import:
        rng.choice(model.opset_import).version = rng.choice((0, 1, 7, 9, 11, 18, 21, 24, 99, -1))
    else:
        model.opset_import.add(domain=rng.choice(("", "own", "ai.onnx")), version=rng.randrange(30))


def _function(rng: random.Random, model: ModelProto) -> None:
    node = _node(rng, model)
    name = rng.choice((node.op_type, "own"))
    call = NodeProto(op_type=name, domain="own", input=["a"], output=["b"])
    body = [call] if rng.random() < 0.3 else [NodeProto(op_type="Relu", input=["a"], output=["b"])]
    model.functions.add(
        name=name,
        domain="own",
        input=["a"],
        output=["b"],
        node=body,
        opset_import=model.opset_import,
    )
    node.domain, node.op_type = "own", name


def _nest(rng: random.Random, model: ModelProto) -> None:
    """A graph inside an attribute of a node of itself."""
    inner = GraphProto()
    try:
        inner.ParseFromString(_graph(rng, model).SerializeToString())
    except DecodeError:  # deeper than protobuf reads
        return
    _node(rng, model).attribute.append(onnx.helper.make_attribute("body", inner))


_CHANGES: Final[Sequence[Callable[[random.Random, ModelProto], None]]] = (
    *(_wire, _wire, _order, _operator, _attribute, _attribute, _tensor, _tensor, _ends, _header),
    *(_function, _nest),
)
