"""Which nodes belong together, and how a pass is kept to them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcompress.ir import io
from onnxcompress.pass_base import Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeStatic, QuantizeWeights, StoreSparse
from onnxcompress.passes.store_sparse import SparseForm
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.sensitivity.units import (
    IN_BODY,
    all_but,
    applied,
    bytes_of,
    find_units,
    only,
    reason_against,
)
from tests.helpers import ops, parse
from tests.passes.support import model_of, normal

CONTEXT = RuntimeContext()
SHARED = """g (float[4,8] x, int64[2] i) => (float[4,8] y, float[2,8] e) {
  a = MatMul(x, w)  b = MatMul(a, w)  y = MatMul(b, v)  e = Gather(t, i)
}"""


def test_nodes_that_read_one_weight_are_one_unit() -> None:
    model = model_of(SHARED, w=normal(8, 8), v=normal(8, 8, seed=1), t=normal(9, 8, seed=2))
    units, skips = find_units(model)
    assert [[node.outputs[0].name for node in unit.nodes] for unit in units] == [
        ["a", "b"],
        ["y"],
        ["e"],
    ]
    assert [unit.weight.name for unit in units] == ["w", "v", "t"]
    assert skips == []


def test_products_of_activations_and_bodies_are_in_no_unit() -> None:
    model = parse(
        """g (float[2,2] x, bool c) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> {
          a = MatMul(x, x)
          b = If (c) <
            then_branch = t () => (float[2,2] p) { p = MatMul(x, w) },
            else_branch = e () => (float[2,2] q) { q = Identity(x) }
          >
          y = Add(a, b)
        }"""
    )
    units, skips = find_units(model)
    assert units == []
    assert {skip.reason for skip in skips} == {"its weight is not stored as floats", IN_BODY}


def test_only_acts_on_its_nodes_whatever_their_names_hold() -> None:
    model = model_of(SHARED, w=normal(8, 8), v=normal(8, 8, seed=1), t=normal(9, 8, seed=2))
    for node in model.graph.nodes:
        node.name = f"/layer[{node.outputs[0].name}]/*"
    units, _ = find_units(model)
    pass_ = QuantizeWeights(min_elements=1)
    variant, edit = applied(only(pass_, units[1].nodes), model, CONTEXT)
    assert ops(variant) == ["MatMul", "MatMul", "DequantizeLinear", "MatMul", "Gather"]
    assert edit.modified
    assert ops(model) == ["MatMul", "MatMul", "MatMul", "Gather"]
    rest, _ = applied(all_but(pass_, units[0].nodes), model, CONTEXT)
    changed = [node.name for node in rest.graph.nodes if node.op == "MatMul"]
    assert changed == [node.name for node in model.graph.nodes if node.op == "MatMul"]
    assert ops(rest).count("DequantizeLinear") == 1


def test_a_recurrent_node_is_a_unit_and_stays_out_of_the_others_trials() -> None:
    model = model_of(
        """g (float[4,1,8] x) => (float[4,1,1,32] y, float[4,1,8] z) {
          y = LSTM <hidden_size = 32> (x, w, r)  z = MatMul(x, v)
        }""",
        w=normal(1, 128, 8),
        r=normal(1, 128, 32, seed=1),
        v=normal(8, 8, seed=2),
    )
    units, _ = find_units(model)
    assert [unit.weight.name for unit in units] == ["w", "v"]
    variant, _ = applied(only(QuantizeWeights(min_elements=1), units[1].nodes), model, CONTEXT)
    floats = {constant.name for constant in variant.constants() if constant.size > 100}
    assert floats == {"w", "r"}


def test_only_keeps_a_nodes_own_options() -> None:
    model = model_of(SHARED, w=normal(8, 8), v=normal(8, 8, seed=1), t=normal(9, 8, seed=2))
    units, _ = find_units(model)
    name = units[1].nodes[0].name
    four = QuantizeWeights(min_elements=1, **{"bits": type(QuantizeWeights().bits)(4)})
    pass_ = QuantizeWeights(min_elements=1, overrides=(Override(four, nodes=(name,)),))
    model.envelope.opset_import[0].version = 21
    variant, _ = applied(only(pass_, units[1].nodes), model, CONTEXT)
    stored = [c for c in variant.constants() if c.name.startswith("v_quantized")]
    assert [c.dtype.name for c in stored] == ["int4"]


def test_what_a_pass_leaves_alone_has_its_reason() -> None:
    model = model_of(SHARED, w=normal(8, 8), v=normal(8, 8, seed=1), t=normal(9, 8, seed=2))
    units, _ = find_units(model)
    _, edit = applied(only(QuantizeWeights(), units[1].nodes), model, CONTEXT)
    assert not edit.modified
    assert reason_against(units[1], edit.skips) == "64 elements < min_elements=1024"
    _, edit = applied(only(QuantizeStatic(), units[2].nodes), model, CONTEXT)
    assert reason_against(units[2], edit.skips) == "the pass has no use for it"


def test_bytes_are_those_of_the_file() -> None:
    model = model_of(SHARED, w=normal(8, 8), v=normal(8, 8, seed=1), t=normal(90, 80, seed=2))
    for constant in model.constants():
        assert constant.dtype == np.float32
    assert abs(bytes_of(model) - len(io.to_bytes(model))) < 40


def test_what_is_stored_sparse_counts_once() -> None:
    w = np.zeros((50, 40), np.float32)
    w[::7] = 1
    model = model_of("g (float[N, 50] x) => (float[N, 40] y) { y = MatMul(x, w) }", w=w)
    PassManager([StoreSparse(form=SparseForm.SPARSE_INITIALIZER)]).run(model)
    assert bytes_of(model) == pytest.approx(len(io.to_bytes(model)), abs=50)


def test_weights_behind_views_belong_to_what_is_stored() -> None:
    """A table that logits are made with, and a layer as it is exported without folding."""
    model = model_of(
        """g (int64[N] i) => (float[N, 40] y) {
          [look] e = Gather(t, i)  u = Transpose <perm = [1, 0]> (w)  [layer] h = MatMul(e, u)
          v = Transpose <perm = [1, 0]> (t)  [logits] y = MatMul(h, v) }""",
        t=normal(40, 32),
        w=normal(32, 32, seed=1),
    )
    units, skips = find_units(model)
    assert [unit.names for unit in units] == [("look", "logits"), ("layer",)]
    assert [unit.weight.name for unit in units] == ["t", "w"] and not skips
    for unit in units:
        variant, _ = applied(only(QuantizeWeights(min_elements=1), unit.nodes), model, CONTEXT)
        packed = [each.size for each in variant.constants() if each.dtype == np.int8]
        assert max(packed) == unit.weight.size
        floats = [each.size for each in variant.constants() if each.dtype == np.float32]
        assert unit.weight.size not in floats
