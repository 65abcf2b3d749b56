from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from onnxcompress.clean import remove_unused
from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import ModelError
from onnxcompress.ir import io
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.students.blocks import find_blocks, whole_blocks
from onnxcompress.students.boundary import Boundary, between, of_nodes
from onnxcompress.students.contract import fit
from onnxcompress.students.score import relative_error
from tests.architectures.specification import Exporter
from tests.architectures.table import ARCHITECTURES
from tests.helpers import outputs, run
from tests.passes.support import model_of, normal

if TYPE_CHECKING:
    from tests.architectures.export import Exports

FEEDS = {"x": normal(5, 6), "m": normal(5, 6, seed=1)}


def network() -> Model:
    """Two inputs; a part from `a` to `d` that reads the mask `k` and the lengths of `a` too."""
    return model_of(
        "g (float[N, 6] x, float[N, 6] m) => (float[N, 6] y, float[N, 6] z) {"
        " [first] a = Relu(x)  [mask] k = Sigmoid(m)  [lengths] s = Shape(a)"
        " [one] b = MatMul(a, w)  [two] c = Mul(b, k)  [three] d = Reshape(c, s)"
        " [behind] y = Tanh(d)  [beside] z = Add(a, k) }",
        w=normal(6, 6, seed=2),
    )


def names(boundary: Boundary) -> tuple[list[str], list[str], list[str]]:
    return (
        [tensor.name for tensor in boundary.inputs],
        [tensor.name for tensor in boundary.outputs],
        [node.name for node in boundary.nodes],
    )


def replaced(model: Model, boundary: Boundary, student: Model) -> None:
    edit = Editor(model)
    boundary.replace(edit, student)
    edit.finish()
    remove_unused(model, edit)
    sort(model.graph)
    verify(model)


def context_of(model: Model) -> RuntimeContext:
    return RuntimeContext(dataset_of(FEEDS, Session(io.to_bytes(model)).inputs))


def test_what_lies_between_tensors_and_what_it_reads_besides() -> None:
    model = network()
    without = between(model, ["a"], ["d"])
    assert names(without) == (["a", "k", "s"], ["d"], ["one", "two", "three"])
    types = context_of(model).types(model)
    assert names(between(model, ["a"], ["d"], types)) == (
        ["a", "k"],
        ["d"],
        ["lengths", "one", "two", "three"],
    )
    assert names(between(model, ["a", "k"], ["d", "z"]))[2] == ["one", "two", "three", "beside"]


def test_nodes_by_name_make_a_part_too() -> None:
    assert names(of_nodes(network(), ["one", "t*"])) == (
        ["a", "k", "s"],
        ["d"],
        ["one", "two", "three"],
    )


def test_the_part_computes_what_the_model_does_there() -> None:
    model = network()
    types = context_of(model).types(model)
    part = between(model, ["a"], ["d"], types).cut_out(model, types)
    verify(part)
    a = np.maximum(FEEDS["x"], 0)
    k = 1 / (1 + np.exp(-FEEDS["m"]))
    np.testing.assert_allclose(run(part, a=a, k=k), a @ normal(6, 6, seed=2) * k, rtol=1e-5)


def test_a_part_may_be_put_back_and_keeps_its_names() -> None:
    model = network()
    before = outputs(model, FEEDS)
    for ends in (["d"], ["d", "z"], ["y"]):
        boundary = between(model, ["a", "k"], ends)
        types = context_of(model).types(model)
        part = boundary.cut_out(model, types)
        fit(model, boundary, part, types)
        replaced(model, boundary, part)
        after = outputs(model, FEEDS)
        assert all(np.array_equal(after[name], before[name]) for name in before)
        assert _named(model) == _named(network())


def _named(model: Model) -> set[str]:
    """Names of all nodes and tensors."""
    nodes = model.graph.nodes
    tensors = (each for node in nodes for each in (*node.inputs, *node.outputs))
    return {node.name for node in nodes} | {each.name for each in tensors}


@pytest.mark.parametrize(
    ("inputs", "ends", "message"),
    [
        (["aa"], ["d"], r"no tensor 'aa'; did you mean a\?"),
        (["k"], ["s"], "no output is made from the input 'k'"),
        (["k"], ["d", "b"], "the output 'b' of the part is not made from its inputs"),
        (["a", "k"], ["y", "z"], None),
        (["x"], ["d"], "'a' is computed inside the part and read outside, by 'beside'"),
    ],
)
def test_what_is_no_part_is_refused(
    inputs: list[str], ends: list[str], message: str | None
) -> None:
    if message is None:
        between(network(), inputs, ends)
        return
    with pytest.raises(ModelError, match=message):
        between(network(), inputs, ends)


def test_nodes_that_are_no_part_are_refused() -> None:
    with pytest.raises(ModelError, match="goes out and comes back in"):
        of_nodes(network(), ["first", "two"])
    with pytest.raises(ModelError, match="match none"):
        of_nodes(network(), ["nothing*"])


def test_parts_with_bodies_are_refused() -> None:
    model = model_of(
        "g (float[2] x, bool c) => (float[2] y) { a = Relu(x)"
        " [choice] b = If (c) <then_branch = t () => (float[2] p) { p = Relu(a) },"
        " else_branch = e () => (float[2] q) { q = Neg(a) }>  y = Tanh(b) }"
    )
    with pytest.raises(ModelError, match="If 'choice' holds graphs"):
        of_nodes(model, ["choice"])


CASES = (
    *((name, Exporter.TRACED) for name in ("bert", "gpt", "vit", "resnet-basic")),
    *((name, Exporter.DYNAMO) for name in ("bert", "gpt", "vit", "mobilenet-v2")),
)


@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_blocks_of_exports_can_be_put_back(name: str, exporter: Exporter, exports: Exports) -> None:
    architecture = next(each for each in ARCHITECTURES if each.name == name)
    path = exports.path(architecture, exporter)
    feeds = architecture.feeds(3)
    other = architecture.feeds(2, sequence=5, seed=1)
    context = RuntimeContext(dataset_of(feeds, Session(path).inputs))
    model = io.load(path)
    before = outputs(model, other)
    named = _named(model)
    found = whole_blocks(find_blocks(model, context.types(model)))
    for start, end in [(block.start.name, block.end.name) for block in found]:
        types = context.types(model)
        boundary = between(model, [start], [end], types)
        part = boundary.cut_out(model, types)
        fit(model, boundary, part, types)
        assert relative_error(model, boundary, part, context) < 1e-10
        replaced(model, boundary, part)
        after = outputs(model, other)
        assert all(np.array_equal(after[key], before[key]) for key in before)
        assert _named(model) == named
