"""Everything that a file says of a model is still there after a round trip."""

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from onnx import AttributeProto, TensorProto, helper

from onnxcompress.ir import io
from onnxcompress.ir.from_proto import import_model
from tests.helpers import proto


def _round_trip(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return onnx.load_from_string(io.to_bytes(import_model(copy)))


def _note(message: Message, key: str) -> None:
    message.metadata_props.add(key=key, value=f"value of {key}")  # type: ignore[attr-defined]


def _model() -> onnx.ModelProto:
    return proto("""g (float[N, 2] x) => (float[N, 2] y)
        <float[2] w = {1, 2}, float[N, 2] a> { a = Add(x, w)  y = Relu(a) }""")


def test_every_field_of_a_documented_model() -> None:
    model = _model()
    model.producer_name, model.producer_version = "exporter", "1.2"
    model.domain, model.model_version, model.doc_string = "org.example", 7, "of the model"
    _note(model, "licence")
    graph = model.graph
    graph.doc_string = "of the graph"
    _note(graph, "graph key")
    annotation = graph.quantization_annotation.add(tensor_name="a")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    for index, node in enumerate(graph.node):
        node.name, node.doc_string, node.overload = f"n{index}", f"of node {index}", "special"
        _note(node, "node key")
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.doc_string = f"of {value.name}"
        _note(value, "value key")
        value.type.denotation = "TENSOR"
    graph.initializer[0].doc_string = "of w"
    _note(graph.initializer[0], "tensor key")

    after = _round_trip(model)
    # Elements may move from float_data to raw_data, and a standard domain may be spelt out.
    for copy in (model, after):
        for field in ("float_data", "raw_data"):
            copy.graph.initializer[0].ClearField(field)
        for node in copy.graph.node:
            node.ClearField("domain")
    assert after == model


def test_opset_imports_and_custom_domains() -> None:
    model = proto("""<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1, "mine" : 3]>
        g (float[2] x) => (float[2] z) { y = com.microsoft.Gelu(x)  z = mine.Thing <k = 3> (y) }""")
    after = _round_trip(model)
    assert after.opset_import == model.opset_import
    assert [node.domain for node in after.graph.node] == ["com.microsoft", "mine"]
    assert after.graph.node[1].attribute[0].i == 3


def test_functions_of_another_opset() -> None:
    model = proto("""<ir_version: 10, opset_import: ["" : 21, "f" : 1]>
        g (float[2] x) => (float[2] y) { y = f.normal <by = 2.0> (x) }
        <domain: "f", opset_import: ["" : 11]> normal <by> (a) => (b)
        { c = Softmax(a)  b = Add(c, c) }""")
    after = _round_trip(model)
    assert after.functions == model.functions
    assert len(after.functions) == 1


def test_training_info() -> None:
    model = _model()
    model.training_info.add().algorithm.CopyFrom(_model().graph)
    assert _round_trip(model).training_info == model.training_info


def _dense() -> TensorProto:
    return helper.make_tensor("inside", TensorProto.FLOAT, [2], [1.0, 2.0])


def _sparse() -> onnx.SparseTensorProto:
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [2])
    return helper.make_sparse_tensor(
        helper.make_tensor("v", TensorProto.FLOAT, [1], [5.0]), indices, [4]
    )


FLOAT_TYPE = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", None, 3])
ATTRIBUTES = {
    "f": AttributeProto(type=AttributeProto.FLOAT, f=0.1),
    "zero": AttributeProto(type=AttributeProto.FLOAT, f=0.0),
    "i": AttributeProto(type=AttributeProto.INT, i=-(1 << 62)),
    "s": AttributeProto(type=AttributeProto.STRING, s=b"\xff\x00bytes"),
    "empty string": AttributeProto(type=AttributeProto.STRING, s=b""),
    "t": AttributeProto(type=AttributeProto.TENSOR, t=_dense()),
    "sparse": AttributeProto(type=AttributeProto.SPARSE_TENSOR, sparse_tensor=_sparse()),
    "tp": AttributeProto(type=AttributeProto.TYPE_PROTO, tp=FLOAT_TYPE),
    "floats": AttributeProto(type=AttributeProto.FLOATS, floats=[1.0, float("inf")]),
    "no floats": AttributeProto(type=AttributeProto.FLOATS),
    "ints": AttributeProto(type=AttributeProto.INTS, ints=[1, -2]),
    "no ints": AttributeProto(type=AttributeProto.INTS),
    "strings": AttributeProto(type=AttributeProto.STRINGS, strings=[b"a", b""]),
    "no strings": AttributeProto(type=AttributeProto.STRINGS),
    "tensors": AttributeProto(type=AttributeProto.TENSORS, tensors=[_dense(), _dense()]),
    "sparses": AttributeProto(type=AttributeProto.SPARSE_TENSORS, sparse_tensors=[_sparse()]),
    "tps": AttributeProto(type=AttributeProto.TYPE_PROTOS, type_protos=[FLOAT_TYPE]),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_attributes(kind: str) -> None:
    model = _model()
    attribute = model.graph.node[0].attribute.add()
    attribute.CopyFrom(ATTRIBUTES[kind])
    attribute.name, attribute.doc_string = kind, "what it is for"
    assert list(_round_trip(model).graph.node[0].attribute) == [attribute]


def test_typed_values_that_are_no_tensors() -> None:
    sequence = helper.make_sequence_type_proto(FLOAT_TYPE)
    types = {
        "sequence": sequence,
        "optional": helper.make_optional_type_proto(sequence),
        "map": helper.make_map_type_proto(TensorProto.INT64, FLOAT_TYPE),
        "sparse": helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]),
    }
    inputs = [helper.make_value_info(f"x {kind}", value) for kind, value in types.items()]
    outputs = [helper.make_value_info(f"y {kind}", value) for kind, value in types.items()]
    nodes = [
        helper.make_node("Identity", [one.name], [other.name], name=one.name, domain="mine")
        for one, other in zip(inputs, outputs, strict=True)
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs))
    assert _round_trip(model) == model


def test_values_described_without_a_type() -> None:
    model = _model()
    model.graph.output[0].ClearField("type")
    model.graph.value_info[0].ClearField("type")
    model.graph.value_info[0].doc_string = "no type is known"
    after = _round_trip(model)
    assert after.graph.output == model.graph.output
    assert after.graph.value_info == model.graph.value_info


def test_an_input_returned_as_it_stands_keeps_its_description() -> None:
    model = proto("g (float[N] x) => (float[M] x) {}")
    model.graph.input[0].doc_string = "the input"
    after = _round_trip(model)
    assert after.graph.input == model.graph.input
    assert after.graph.output[0].name == "x"


def test_a_lifted_constant_keeps_what_its_tensor_says() -> None:
    value = _dense()
    value.doc_string = "why 1, 2"
    _note(value, "from")
    model = _model()
    model.graph.initializer.pop()
    node = helper.make_node("Constant", [], ["w"], value=value)
    model.graph.node.insert(0, node)
    (stored,) = _round_trip(model).graph.initializer
    assert (stored.name, stored.doc_string) == ("w", "why 1, 2")
    assert stored.metadata_props == value.metadata_props
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), [1, 2])
