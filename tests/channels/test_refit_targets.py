import numpy as np

from onnxcompress.channels.refit_targets import (
    Target,
    changed_nodes,
    find_target,
    stages,
    without_later_sums,
)
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node
from tests.helpers import node
from tests.passes.support import model_of, normal

BLOCK = """g (float[N, 4] x) => (float[N, 4] y) {
  [first] a = MatMul(x, w1)  [q] q = MatMul(a, w2)  [k] k = MatMul(a, w3)
  [qk] s = Add(q, k)  r = Relu(s)
  [out] o = MatMul(r, w4)  [out_bias] b = Add(o, b4)  [sum] y = Add(b, a) }"""


def _block() -> Model:
    weights = {f"w{i}": normal(4, 4, seed=i) for i in range(1, 5)}
    return model_of(BLOCK, b4=normal(4), **weights)


def _targets(model: Model, names: list[str]) -> dict[Node, Target]:
    named = {each.name: each for each in clone(model).graph.nodes}
    found = {}
    for name in names:
        target = find_target(model, node(model, name), named, residual=True)
        assert isinstance(target, Target)
        found[target.node] = target
    return found


def test_what_nodes_are_fitted_to() -> None:
    model = _block()
    targets = _targets(model, ["first", "q", "k", "out"])
    assert [target.wanted for target in targets.values()] == ["a", "q", "k", "b"]
    out = targets[node(model, "out")]
    assert out.bias is not None and out.bias.node.name == "out_bias"
    assert out.residual is not None
    assert (out.residual.shortcut.name, out.residual.total) == ("a", "y")
    kept = without_later_sums(model, targets, [])
    sums = {each.name: target.residual is not None for each, target in kept.items()}
    assert sums == {"first": False, "q": False, "k": True, "out": True}


def test_nodes_side_by_side_share_a_stage_if_memory_allows() -> None:
    model = _block()
    nodes = [node(model, name) for name in ("first", "q", "k", "out")]
    reads = {each: each.inputs[:1] for each in nodes}
    sizes = dict.fromkeys(nodes, 10)

    def names(most: int) -> list[list[str]]:
        return [[each.name for each in stage] for stage in stages(model, reads, sizes, most)]

    assert names(20) == [["first"], ["q", "k"], ["out"]]
    assert names(19) == [["first"], ["q"], ["k"], ["out"]]


def test_what_no_longer_puts_out_the_same() -> None:
    model = _block()
    original = {each.name: each for each in clone(model).graph.nodes}
    assert changed_nodes(model, original) == set()
    values = normal(4, 4, seed=2)
    values[:, 1] = 0
    Editor(model).set_values(node(model, "q"), 1, values)
    changed = {each.name for each in changed_nodes(model, original)}
    assert changed >= {"q", "qk", "out", "out_bias", "sum"}
    assert not changed & {"first", "k"}
    Editor(model).set_values(node(model, "q"), 1, np.array(normal(4, 4, seed=2)))
    assert changed_nodes(model, original) == set()
