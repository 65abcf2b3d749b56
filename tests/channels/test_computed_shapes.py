"""Groups of graphs that compute lengths as they run, and the law on them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcompress.channels.cut import Cut
from onnxcompress.channels.groups import Groups, find_groups
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.runtime.context import RuntimeContext
from tests.helpers import ops
from tests.passes.support import model_of, normal

from .law import loose_slices, try_law, whole_units

Array = np.ndarray


def _units(model: Model) -> list[tuple[str, int]]:
    """Name and units of each group."""
    return [(group.name, len(group)) for group in _groups(model).groups]


def _groups(model: Model) -> Groups:
    return find_groups(model, RuntimeContext())


def _assert_law(model: Model, *shapes: tuple[int, ...], name: str = "x") -> None:
    """Of three masks of either kind, on inputs of these shapes."""
    feeds = [{name: normal(*shape, seed=len(shape) + sum(shape))} for shape in shapes]
    for seed in range(3):
        for mask in (whole_units, loose_slices):
            outcome = try_law(model, feeds, seed=seed, mask=mask)
            assert outcome.holds, outcome
            if mask is whole_units:  # of any slices, those may be zeroed that matter to nothing
                assert outcome.effect > 1e-3 and outcome.after < outcome.before, outcome


FUSED = """g (float[N, S, 8] x) => (float[N, S, 8] y) <int64[1] pick = {0}, int64[1] four = {4}> {
  l = Shape(x)  n = Slice(l, i0, i1)  s = Slice(l, i1, i2)  c = Slice(l, i2, i3)
  size = Div(c, four)  apart = Concat <axis = 0> (n, s, i3, four, size)
  [merged] m = MatMul(x, w)  a = Reshape(m, apart)
  t = Transpose <perm = [2, 0, 3, 1, 4]> (a)
  q = Gather <axis = 0> (t, zero)  k = Gather <axis = 0> (t, one)  v = Gather <axis = 0> (t, two)
  kt = Transpose <perm = [0, 1, 3, 2]> (k)  qk = MatMul(q, kt)
  heads = Shape(q)  d = Slice(heads, i3, i4)  df = Cast <to = 1> (d)  r = Sqrt(df)
  scaled = Div(qk, r)  p = Softmax <axis = -1> (scaled)  o = MatMul(p, v)
  ot = Transpose <perm = [0, 2, 1, 3]> (o)
  together = Concat <axis = 0> (n, s, c)  j = Reshape(ot, together)  [out] y = MatMul(j, u)
}"""
NUMBERS = {
    **{f"i{index}": np.array([index], np.int64) for index in range(5)},
    **{name: np.array(index, np.int64) for index, name in enumerate(("zero", "one", "two"))},
}


def test_heads_whose_size_is_computed_from_the_width() -> None:
    model = model_of(FUSED, **NUMBERS, w=normal(8, 24), u=normal(8, 8, seed=1))
    (group,) = _groups(model).groups
    widths = {(axis.tensor.name, axis.axis): group.slots_per_unit(axis) for axis in group.axes}
    assert (len(group), widths["w", 1], widths["u", 0]) == (4, 6, 2)
    _assert_law(model, (1, 5, 8), (3, 7, 8))


CHUNK = """g (float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y) {
  [first] h = Conv(x, v, b)  l = Shape(h)  c = Gather(l, i1)  c1 = Add(c, i1)  half = Div(c1, i2)
  end = Mul(half, i2)  k = Slice(h, i0, half, i1)  g = Slice(h, half, end, i1)  s = Sigmoid(g)
  m = Concat <axis = 1> (k, s)  [last] y = Conv(m, w)
}"""


def test_halves_that_are_sliced_where_a_computed_length_says() -> None:
    weights = {"v": normal(7, 3, 1, 1), "b": normal(7), "w": normal(2, 7, 1, 1)}
    model = model_of(CHUNK, **NUMBERS, **weights)
    assert _units(model) == [("first", 4), ("first", 3)]
    _assert_law(model, (1, 3, 4, 4), (5, 3, 4, 4))


def test_a_slice_whose_bound_depends_on_another_length_is_left_alone() -> None:
    text = CHUNK.replace("l = Shape(h)", "l = Shape(x)").replace("Gather(l, i1)", "Gather(l, i2)")
    weights = {"v": normal(4, 3, 1, 1), "b": normal(4), "w": normal(2, 4, 1, 1)}
    model = model_of(text.replace("4, 4] x", "H, 4] x").replace("4, 4] y", "H, 4] y"), **NUMBERS,
                     **weights)  # fmt: skip
    found = _groups(model)
    assert not found.groups
    assert any("where a computed number says" in each.reason for each in found.skipped)


NORMALIZED = """g (float[N, 3, 6, 6] x) => (float[N, 2, 6, 6] y)
<int64[3] groups = {0, 4, -1}> {
  [first] h = Conv(x, v, b)  r = Reshape(h, groups)  i = InstanceNormalization(r, ones, zeros)
  l = Shape(h)  k = Reshape(i, l)  m = Mul(k, scale)  a = Add(m, shift)  s = Sigmoid(a)
  [last] y = Conv(s, w)
}"""


def test_whole_groups_of_a_normalization_that_was_taken_apart() -> None:
    model = model_of(
        NORMALIZED,
        v=normal(12, 3, 1, 1),
        b=normal(12),
        ones=np.ones(4, np.float32),
        zeros=np.zeros(4, np.float32),
        scale=normal(12, 1, 1),
        shift=normal(12, 1, 1, seed=1),
        w=normal(2, 12, 1, 1),
    )
    (group,) = _groups(model).groups
    widths = {(axis.tensor.name, axis.axis): group.slots_per_unit(axis) for axis in group.axes}
    assert len(group) == 4
    assert [widths[name, 0] for name in ("v", "b", "ones", "scale", "shift")] == [3, 3, 1, 3, 3]
    _assert_law(model, (1, 3, 6, 6), (3, 3, 6, 6))


@pytest.mark.parametrize(("opset", "numbers"), [(21, 12), (18, 4)])
def test_whole_groups_of_a_normalization(opset: int, numbers: int) -> None:
    model = model_of(
        f'<ir_version: 9, opset_import: ["" : {opset}]> '
        "g (float[N, 3, 6, 6] x) => (float[N, 2, 6, 6] y) { [first] h = Conv(x, v, b)"
        " n = GroupNormalization <num_groups = 4> (h, scale, shift)  r = Sigmoid(n)"
        " [last] y = Conv(r, w) }",
        v=normal(12, 3, 1, 1),
        b=normal(12),
        scale=normal(numbers),
        shift=normal(numbers, seed=1),
        w=normal(2, 12, 1, 1),
    )
    assert _units(model) == [("first", 4)]
    _assert_law(model, (1, 3, 6, 6), (3, 3, 6, 6))


STATES = """g (float[S, N, 3] x) => (float[S, N, 2] y)
<float none = {0}, float[1] z = {0}, int64[4] join = {0, 0, 1, -1}> {
  l = Shape(x)  n = Slice(l, i1, i2)  sizes = Concat <axis = 0> (i1, n, units)
  h0 = Expand(none, sizes)  c0 = ConstantOfShape(sizes)
  [lstm] h = LSTM <hidden_size = 6> (x, w, r, b, , h0, c0)
  t = Transpose <perm = [0, 2, 1, 3]> (h)  tl = Shape(t)  a = Slice(tl, i0, i2)
  d = Slice(tl, i2, i3)  e = Slice(tl, i3, i4)  de = Mul(d, e)  flat = Concat <axis = 0> (a, de)
  f = Reshape(t, flat)  [last] y = MatMul(f, u)
}"""


def test_units_of_an_lstm_whose_first_state_is_made_for_the_batch() -> None:
    model = model_of(
        STATES,
        **NUMBERS,
        units=np.array([6], np.int64),
        w=normal(1, 24, 3),
        r=normal(1, 24, 6),
        b=normal(1, 48),
        u=normal(6, 2),
    )
    assert _units(model) == [("lstm", 6)]
    _assert_law(model, (4, 1, 3), (3, 5, 3))


MERGED = """g (float[5, N, 8] x) => (float[5, N, 2] y) <int64[1] four = {4}, int64[1] rest = {-1}> {
  [first] h = MatMul(x, w)  l = Shape(h)  s = Slice(l, i0, i1)  n = Slice(l, i1, i2)
  both = Mul(n, four)  apart = Concat <axis = 0> (s, both, i2)  a = Reshape(h, apart)
  t = Transpose <perm = [1, 0, 2]> (a)  tt = Transpose <perm = [1, 0, 2]> (t)
  q = Relu(tt)  together = Concat <axis = 0> (s, n, rest)  j = Reshape(q, together)
  [last] y = MatMul(j, u)
}"""


def test_heads_in_one_axis_with_the_batch() -> None:
    model = model_of(MERGED, **NUMBERS, w=normal(8, 8), u=normal(8, 2))
    assert _units(model) == [("first", 4)]
    _assert_law(model, (5, 1, 8), (5, 4, 8))


def test_what_is_computed_from_a_length_is_still_computed_from_the_whole() -> None:
    model = model_of(
        "g (float[N, 4] x) => (float[N, 3] y) { [first] h = MatMul(x, w)  s = Shape(h)"
        "  c = Slice(s, i1, i2)  f = Cast <to = 1> (c)  m = Div(h, f)  [last] y = MatMul(m, u) }",
        **NUMBERS,
        w=normal(4, 6),
        u=normal(6, 3),
    )
    assert _units(model) == [("first", 6)]
    _assert_law(model, (1, 4), (5, 4))


def test_a_length_that_goes_to_a_reshape_alone_needs_no_more_nodes() -> None:
    from onnxcompress.pass_manager import PassManager
    from onnxcompress.passes import StripPruned

    w = normal(4, 6)
    w[:, 2] = 0
    model = model_of(
        "g (float[N, 4] x) => (float[N, 3] y) { [first] h = MatMul(x, w)  r = Relu(h)"
        "  s = Shape(r)  k = Neg(r)  m = Reshape(k, s)  [last] y = MatMul(m, u) }",
        w=w,
        u=normal(6, 3),
    )
    before = ops(model)
    assert PassManager([StripPruned()]).run(model)[0].modified
    assert ops(model) == before


def test_a_declared_symbol_does_not_outlive_the_length_it_stood_for() -> None:
    """onnxruntime takes axes of one name for equally long, and reuses memory by that."""
    model = model_of(MERGED, **NUMBERS, w=normal(8, 8), u=normal(8, 2))
    (a,) = [t for each in model.graph.nodes for t in each.outputs if t.name == "a"]
    a.shape = [5, "4*N", 2]
    found = _groups(model)
    (group,) = found.groups
    kept = np.ones(found.space.size, bool)
    kept[group.units[0]] = False
    edit = Editor(model)
    Cut(found.space, kept).apply(model, edit)
    assert a.shape == [5, None, 2]
