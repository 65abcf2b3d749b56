import numpy as np

from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node
from onnxcompress.masking.weights import PrunableWeight, prunable_weights
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import PruneWeights
from tests.passes.support import model_of, normal


def _found(
    model: Model, pass_: PruneWeights | None = None
) -> tuple[dict[str, PrunableWeight], dict[str, str]]:
    """Weights by the name of their tensor; and why nodes were skipped."""
    edit, options = Editor(model), pass_ or PruneWeights()
    weights = [weight for weight, _ in prunable_weights(model, edit, options.at)]
    names = {weight.constant.name: weight for weight in weights}
    assert len(names) == len(weights)
    return names, {skip.node: skip.reason for skip in edit.skips}


def _names(weight: PrunableWeight) -> list[tuple[str, int]]:
    return [(node.name, index) for node, index in weight.readers]


def test_weights_in_bodies_and_with_several_readers_are_found_once() -> None:
    model = model_of(
        """g (float[2, 4] x, bool c) => (float[2, 4] y) {
          [one] a = MatMul(x, w)  [two] b = MatMul(a, w)
          [choice] y = If (c) <
            then_branch = t () => (float[2, 4] p) { [inner] p = Gemm(b, w) },
            else_branch = e () => (float[2, 4] q) { [own] q = MatMul(b, v) }> }""",
        w=normal(4, 4),
        v=normal(4, 4, seed=1),
    )
    found, skips = _found(model)
    assert skips == {}
    assert {name: sorted(_names(weight)) for name, weight in found.items()} == {
        "w": [("inner", 1), ("one", 1), ("two", 1)],
        "v": [("own", 1)],
    }


def test_recurrent_nodes_have_two_weights() -> None:
    model = model_of(
        "g (float[4, 2, 3] x) => (float y) { [n] y, h, c = LSTM <hidden_size = 5> (x, w, r) }",
        w=normal(1, 20, 3),
        r=normal(1, 20, 5),
    )
    found, _ = _found(model)
    assert {name: _names(weight) for name, weight in found.items()} == {
        "w": [("n", 1)],
        "r": [("n", 2)],
    }


def test_what_is_left_alone_is_told() -> None:
    model = model_of(
        """g (float[4, 4] x, int64[2] i)
            => (float[4, 4] y, float[4, 4] returned, float[2, 4] rows) {
          [excluded] a = MatMul(x, w1)  [computed] b = MatMul(a, x)
          turned = Transpose(w2)  same = Identity(turned)  [behind] c = MatMul(b, same)
          real = DequantizeLinear(w8, s)  [stored_small] d = MatMul(c, real)
          [first] e = MatMul(w3, d)  [table] rows = Gather(w4, i)
          [tied] f = MatMul(e, w5)  added = Add(f, w5)
          [by_row] g1 = Gemm(added, w6)  [by_column] g2 = Gemm <transB = 1> (g1, w6)
          [broken] h = MatMul(g2, w7)  [whole] j = MatMul(h, returned)
          [other] k = MatMul(j, w9)  [options] y = MatMul(k, w9) }""",
        **{f"w{index}": normal(4, 4, seed=index) for index in (1, 2, 3, 4, 5, 6, 9)},
        w7=np.full((4, 4), np.nan, np.float32),
        w8=np.ones((4, 4), np.int8),
        s=np.float32(1),
        returned=normal(4, 4, seed=10),
    )
    overrides = (
        Override(None, nodes=("excluded",)),
        Override(PruneWeights(sparsity=0.2), nodes=("options",)),
    )
    found, skips = _found(model, PruneWeights(overrides=overrides))
    assert found == {}
    disagree = "'options' (MatMul) shares 'w9' under other options; give all its readers the same"
    assert skips == {
        "excluded": EXCLUDED,
        "computed": "its weight is computed, not stored",
        "behind": "its weight is stored behind Identity; run fold-constants first",
        "stored_small": "its weight is quantized; prune before quantization",
        "first": "its stored operand is the first; weights are looked for in the second",
        "table": "a table that Gather reads; prune-vocabulary takes rows that are never read",
        "tied": "'Add_added' (Add) reads 'w5' too, and not as a weight to multiply with",
        "Add_added": "'Add_added' (Add) reads 'w5' too, and not as a weight to multiply with",
        "by_row": "'by_column' (Gemm) shares 'w6' in another layout",
        "by_column": "'by_column' (Gemm) shares 'w6' in another layout",
        "broken": "its weight holds NaN or infinities",
        "whole": "a graph returns 'returned' as it stands",
        "other": disagree,
        "options": disagree,
    }


def test_new_values_are_stored_once_for_all_readers_and_read_when_applied() -> None:
    model = model_of(
        "g (float[2, 4] x) => (float[2, 4] y) { [one] a = MatMul(x, w)  [two] y = MatMul(a, w) }",
        w=normal(4, 4).astype(np.float64).astype(np.float32),
    )
    edit = Editor(model)
    ((weight, _),) = prunable_weights(model, edit, PruneWeights().at)
    assert weight.changed(edit, weight.view()) is None
    halved = np.where(weight.view() > 0, weight.view(), 0)
    change = weight.changed(edit, halved)
    assert change is not None
    readers: list[Node] = model.graph.nodes
    assert readers[0].inputs[1] is weight.constant
    change.apply(edit)
    assert readers[0].inputs[1] is readers[1].inputs[1] is change.constant
    np.testing.assert_array_equal(change.constant.values, np.maximum(normal(4, 4), 0))
    zeros = np.count_nonzero(normal(4, 4) <= 0)
    assert {change.detail for change in edit.changes} == {f"w: {zeros} of 16 weights are zero"}
