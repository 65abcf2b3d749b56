from pathlib import Path

import numpy as np

from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.opset import require_opset
from onnxcompress.ir.stored import MappedArray
from tests.helpers import node, parse, tensor

TEXT = """<ir_version: 8, opset_import: ["" : 13]> g (bool b, float[2] x) => (float[2] y)
    <float[2] w = {1, 2}, float[2] spare = {0, 0}> {
    a = Add(x, w)
    y = If (b) <then_branch = t () => (float[2] o) { c = Constant <value_floats = [3.0, 4.0]> ()
                                                     h = Mul(a, c)  o = Add(h, w) },
                else_branch = e () => (float[2] p) { p = Neg(a) }>
}"""


def _constants(model: Model) -> dict[str, Constant]:
    stored = [*model.constants(), *model.graph.initializers]
    return {constant.name: constant for constant in stored}


def test_a_clone_is_the_same_model_on_the_same_arrays() -> None:
    model = parse(TEXT)
    copy = clone(model)
    assert io.to_bytes(copy) == io.to_bytes(model)
    mine, theirs = _constants(model), _constants(copy)
    assert mine.keys() == theirs.keys() == {"w", "c", "spare"}
    for name, constant in mine.items():
        assert theirs[name] is not constant
        assert np.shares_memory(theirs[name].values, constant.values)
    for (_, one), (_, other) in zip(model.nodes(), copy.nodes(), strict=True):
        assert one is not other
        tensors = [[*node.inputs, *node.outputs] for node in (one, other)]
        for before, after in zip(*tensors, strict=True):
            assert before is not after
            assert len(before.outputs) == len(after.outputs)


def test_captured_tensors_are_one_object_in_the_clone_too() -> None:
    copy = clone(parse(TEXT))
    a = node(copy, "Add_a").outputs[0]
    assert {reader.name for reader in a.outputs} == {"Mul_h", "Neg_p"}
    assert node(copy, "Add_o").inputs[1] is node(copy, "Add_a").inputs[1]


def test_no_edit_of_the_clone_shows_in_the_original() -> None:
    model = parse(TEXT)
    before = io.to_bytes(model)
    copy = clone(model)
    edit = Editor(copy)
    add, mul = node(copy, "Add_a"), node(copy, "Mul_h")
    edit.set_values(mul, 1, np.float32([9, 9]))
    edit.set_attribute(add, "note", 3)
    edit.redirect(add.outputs[0], edit.add("Gelu", [add.inputs[0]], near=add, base="g", domain="m"))
    edit.remove(add)
    edit.remove_initializer(copy.graph, _constants(copy)["spare"])
    edit.finish()
    require_opset(copy, 15)
    copy.graph.outputs[0].name = "renamed"
    copy.envelope.producer_name = "other"
    assert io.to_bytes(copy) != before
    assert io.to_bytes(model) == before


def test_overridable_values_and_lazy_arrays_stay_lazy(tmp_path: Path) -> None:
    model = parse("g (float[N, 40] x) => (float[N, 40] y) { y = MatMul(x, w) }")
    node(model, "MatMul_y").inputs[1] = Constant("w", np.ones((40, 40), np.float32))
    io.save(model, tmp_path / "m.onnx", external=True)
    loaded = io.load(tmp_path / "m.onnx")
    copy = clone(loaded)
    stored = tensor(copy, "w")
    assert isinstance(stored, Constant)
    assert isinstance(stored.stored, MappedArray)
    assert (copy.path, copy.files) == (loaded.path, loaded.files)
    assert {path.name for path in copy.files} == {"m.onnx", "m.onnx.data"}
