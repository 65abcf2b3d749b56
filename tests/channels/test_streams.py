"""Which sums make a residual stream, and which only look like one."""

import numpy as np
import pytest

from onnxcompress.channels.groups import Group, find_groups
from onnxcompress.ir.model import Model
from onnxcompress.runtime.context import RuntimeContext
from tests.passes.support import model_of, normal

from .law import loose_slices, try_law, whole_units

GELU = """g (float[N, 8] x) => (float[N, 4] y) {
  [first] h = Gemm(x, u)  c = Pow(h, three)  d = Mul(c, small)  e = Add(h, d)  t = Tanh(e)
  o = Add(t, one)  m = Mul(h, o)  [last] y = Gemm(m, w) }"""

GATES = """g (float[N, 8] x) => (float[N, 4] y) {
  [first] h = MatMul(x, u)  [other] k = MatMul(x, v)  s = Add(h, k)  t = Tanh(s)
  [last] y = MatMul(t, w) }"""

ROTARY = """g (float[N, 3, 8] x) => (float[N, 3, 8] y)
<int64[4] heads = {0, 0, 4, 2}, int64[3] rows = {0, 0, 8}> {
  [query] q0 = MatMul(x, wq)  q1 = Reshape(q0, heads)  q2 = Transpose <perm = [0, 2, 1, 3]> (q1)
  a, b = Split <axis = -1, num_outputs = 2> (q2)  n = Neg(b)  r = Concat <axis = -1> (n, a)
  qc = Mul(q2, cos)  qs = Mul(r, sin)  q = Add(qc, qs)
  [key] k0 = MatMul(x, wk)  k1 = Reshape(k0, heads)  k = Transpose <perm = [0, 2, 3, 1]> (k1)
  [value] v0 = MatMul(x, wv)  v1 = Reshape(v0, heads)  v = Transpose <perm = [0, 2, 1, 3]> (v1)
  s = MatMul(q, k)  p = Softmax <axis = -1> (s)  c = MatMul(p, v)
  t = Transpose <perm = [0, 2, 1, 3]> (c)  o = Reshape(t, rows)  [out] y = MatMul(o, wo) }"""

LAYER = """
  q{i}0 = MatMul(x{i}, wq{i})  q{i}1 = Reshape(q{i}0, heads)
  q{i} = Transpose <perm = [0, 2, 1, 3]> (q{i}1)
  k{i}0 = MatMul(x{i}, wk{i})  k{i}1 = Reshape(k{i}0, heads)
  k{i} = Transpose <perm = [0, 2, 3, 1]> (k{i}1)
  v{i}0 = MatMul(x{i}, wv{i})  v{i}1 = Reshape(v{i}0, heads)
  v{i} = Transpose <perm = [0, 2, 1, 3]> (v{i}1)
  s{i} = MatMul(q{i}, k{i})  b{i} = Add(s{i}, biases)  p{i} = Softmax <axis = -1> (b{i})
  c{i} = MatMul(p{i}, v{i})  t{i} = Transpose <perm = [0, 2, 1, 3]> (c{i})
  o{i} = Reshape(t{i}, rows)  {out} = MatMul(o{i}, wo{i})"""

BIASES = (
    "g (float[N, 3, 8] x0) => (float[N, 3, 8] y) <int64[4] heads = {0, 0, 4, 2},"
    " int64[3] rows = {0, 0, 8}> { f = Gather(table, places)"
    " g = Transpose <perm = [2, 0, 1]> (f)  biases = Unsqueeze(g, first)"
    + LAYER.replace("{i}", "0").replace("{out}", "m0")
    + " x1 = Add(x0, m0)"
    + LAYER.replace("{i}", "1").replace("{out}", "y")
    + "}"
)

RESIDUAL = """g (float[N, 8] x) => (float[N, 4] y) {
  [first] h = MatMul(x, u)  r = Relu(h)  [branch] k = MatMul(r, v)  s = Add(h, k)
  [last] y = MatMul(s, w) }"""

SCALED = """g (float[N, 8] x) => (float[N, 4] y) {
  [first] h = MatMul(x, u)  r = Relu(h)  [inner] i = MatMul(r, a)  j = Relu(i)
  [branch] k = MatMul(j, b)  c = Mul(k, small)  d = Identity(h)  s = Sum(c, d)
  [last] y = MatMul(s, w) }"""


def _biased() -> Model:
    weights = {f"w{n}{i}": normal(8, 8, seed=i) for i in (0, 1) for n in "qkvo"}
    places = np.arange(9).reshape(3, 3) % 5
    return model_of(BIASES, **weights, table=normal(5, 4), places=places, first=np.array([0]))


SQUARES = {name: normal(8, 8, seed=i) for i, name in enumerate(("wq", "wk", "wv", "wo"))}
WIDE = {"u": normal(8, 12), "v": normal(8, 12, seed=1), "w": normal(12, 4, seed=2)}
NUMBERS = {"three": np.float32(3), "small": np.float32(0.04), "one": np.float32(1)}

NO_STREAMS = {
    "a gelu": (model_of(GELU, **WIDE, **NUMBERS), {"x": normal(5, 8)}, "first", 12),
    "two products": (model_of(GATES, **WIDE), {"x": normal(5, 8)}, "first", 12),
    "rotary": (
        model_of(ROTARY, **SQUARES, cos=normal(3, 2), sin=normal(3, 2, seed=1)),
        {"x": normal(2, 3, 8)},
        "query",
        4,
    ),
    "biases": (_biased(), {"x0": normal(2, 3, 8)}, "", 4),
}


@pytest.mark.parametrize("name", NO_STREAMS)
def test_a_sum_alone_makes_no_stream(name: str) -> None:
    model, feed, first, units = NO_STREAMS[name]
    found = _groups(model)
    group = next(each for each in found if not first or each.name == first)
    assert (len(group), group.is_stream) == (units, False)
    for mask in (whole_units, loose_slices):
        outcome = try_law(model, [feed], seed=1, mask=mask)
        assert outcome.holds and outcome.effect > 1e-3, outcome


@pytest.mark.parametrize("text", [RESIDUAL, SCALED])
def test_what_is_carried_on_beside_products_of_it_is_one(text: str) -> None:
    model = model_of(
        text,
        u=normal(8, 12),
        v=normal(12, 12, seed=1),
        a=normal(12, 6, seed=3),
        b=normal(6, 12, seed=4),
        w=normal(12, 4, seed=2),
        small=np.float32(0.1),
    )
    streams = {each.name: each.is_stream for each in _groups(model)}
    assert streams.pop("first") and not any(streams.values())


def _groups(model: Model) -> tuple[Group, ...]:
    return find_groups(model, RuntimeContext()).groups
