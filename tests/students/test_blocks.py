import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.model import Model, Variable
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.students.blocks import Block, find_blocks, whole_blocks
from onnxcompress.students.region import Regions
from tests.helpers import tensor
from tests.passes.support import model_of, normal, opset

WHOLE = "{out} = LayerNormalization ({x}, g, o)"
WRITTEN = (
    "{x}_mean = ReduceMean <axes = [-1]> ({x})  {x}_centred = Sub({x}, {x}_mean)"
    "  {x}_square = Pow({x}_centred, two)  {x}_variance = ReduceMean <axes = [-1]> ({x}_square)"
    "  {x}_safe = Add({x}_variance, eps)  {x}_root = Sqrt({x}_safe)"
    "  {x}_unit = Div({x}_centred, {x}_root)  {x}_scaled = Mul({x}_unit, g)"
    "  {out} = Add({x}_scaled, o)"
)
ATTENTION = (
    "q = MatMul({x}, wq)  k = MatMul({x}, wk)  kt = Transpose <perm = [0, 2, 1]> (k)"
    "  l = MatMul(q, kt)  p = Softmax <axis = -1> (l)  {out} = MatMul(p, {x})"
)
NETWORK = "h = MatMul({x}, wq)  r = Relu(h)  {out} = MatMul(r, wk)"


def found(body: str, version: int) -> tuple[Model, list[Block]]:
    model = model_of(
        f"{opset(version)} g (float[N, 5, 6] x) => (float[N, 5, 6] y) {{ {body} }}",
        wq=normal(6, 6),
        wk=normal(6, 6, seed=1),
        g=normal(6, seed=2),
        o=normal(6, seed=3),
        two=normal(1, seed=4) * 0 + 2,
        eps=normal(1, seed=4) * 0 + 1e-5,
    )
    feeds = {"x": normal(2, 5, 6)}
    context = RuntimeContext(dataset_of(feeds, Session(io.to_bytes(model)).inputs))
    return model, find_blocks(model, context.types(model))


@pytest.mark.parametrize(("norm", "version"), [(WHOLE, 17), (WRITTEN, 11)])
def test_a_normalization_behind_the_sum_belongs_to_the_block(norm: str, version: int) -> None:
    body = "  ".join(
        (
            norm.format(x="x", out="a"),
            ATTENTION.format(x="a", out="f"),
            "[one] s = Add(a, f)",
            norm.format(x="s", out="b"),
            NETWORK.format(x="b", out="e"),
            "[two] t = Add(e, b)",
            norm.format(x="t", out="c"),
            "y = MatMul(c, wq)",
        )
    )
    _, blocks = found(body, version)
    assert [(block.name, block.start.name, block.end.name) for block in blocks] == [
        ("one", "a", "b"),
        ("two", "b", "c"),
    ]
    assert [block.attends for block in blocks] == [True, False]
    (whole,) = whole_blocks(blocks)
    assert (whole.name, whole.start.name, whole.end.name) == ("two", "a", "c")
    assert [node.name for node in whole.sums] == ["one", "two"]


@pytest.mark.parametrize(("norm", "version"), [(WHOLE, 17), (WRITTEN, 11)])
def test_a_normalization_before_it_does_not(norm: str, version: int) -> None:
    body = "  ".join(
        (
            norm.format(x="x", out="a"),
            ATTENTION.format(x="a", out="f"),
            "[one] s = Add(x, f)",
            norm.format(x="s", out="b"),
            NETWORK.format(x="b", out="e"),
            "[two] t = Add(s, e)",
            norm.format(x="t", out="c"),
            "y = MatMul(c, wq)",
        )
    )
    _, blocks = found(body, version)
    assert [(block.start.name, block.end.name) for block in blocks] == [("x", "s"), ("s", "t")]


def test_attentions_without_a_network_stay_alone() -> None:
    body = "  ".join(
        (
            ATTENTION.format(x="x", out="f"),
            "[one] s = Add(x, f)",
            "b = Tanh(s)",
            NETWORK.format(x="b", out="e"),
            "[two] t = Add(b, e)",
            "y = Identity(t)",
        )
    )
    _, blocks = found(body, 17)
    assert [block.name for block in whole_blocks(blocks)] == ["one", "two"]


def test_exits_are_where_everything_comes_together() -> None:
    model, _ = found("a = Tanh(x)  b = Neg(a)  c = Mul(a, b)  d = Abs(c)  y = Add(d, x)", 17)
    regions = Regions(model)
    start = tensor(model, "a")
    assert isinstance(start, Variable)
    exits = regions.exits(start, lambda node: node.op != "Add")
    assert [each.name for each, _ in exits] == ["c", "d"]
    assert [[node.op for node in nodes] for _, nodes in exits] == [
        ["Neg", "Mul"],
        ["Neg", "Mul", "Abs"],
    ]
    assert regions.exits(start, lambda node: node.op == "Neg") == []
    path = regions.between(tensor(model, "a"), tensor(model, "d"))
    assert [node.op for node in path] == ["Neg", "Mul", "Abs"]


def test_lengths_carry_no_values() -> None:
    model, _ = found("a = Tanh(x)  s = Shape(a)  b = Expand(two, s)  y = Mul(b, x)", 17)
    assert Regions(model).between(tensor(model, "a"), tensor(model, "b")) == []


def test_copies_are_looked_through() -> None:
    body = "  ".join(
        (
            "a = Tanh(x)  i = Identity(a)",
            NETWORK.format(x="a", out="e"),
            "d = Dropout(e)  [one] s = Add(i, d)  y = Identity(s)",
        )
    )
    _, blocks = found(body, 17)
    assert [(block.start.name, block.end.name) for block in blocks] == [("a", "s")]


def test_learned_queries_have_no_batch_axis() -> None:
    body = "  ".join(
        (
            "k = Transpose <perm = [0, 2, 1]> (x)  l = MatMul(wk3, k)  p = Softmax <axis = -1> (l)",
            "m = MatMul(p, x)  f = MatMul(m, wq)  n = Identity(wk3)  i = Neg(n)",
            "j = MatMul(i, wq)  [none] s = Add(i, j)  y = Add(s, f)",
        )
    )
    model = model_of(
        f"{opset(17)} g (float[N, 5, 6] x) => (float[N, 5, 6] y) {{ {body} }}",
        wq=normal(6, 6),
        wk3=normal(1, 5, 6, seed=1),
    )
    feeds = {"x": normal(1, 5, 6)}
    context = RuntimeContext(dataset_of(feeds, Session(io.to_bytes(model)).inputs))
    assert find_blocks(model, context.types(model)) == []
