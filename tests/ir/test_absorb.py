import numpy as np
import pytest

from onnxcompress.ir.absorb import Absorber
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.runtime.context import RuntimeContext
from tests.helpers import outputs, tensor
from tests.passes.support import model_of, normal

X = normal(2, 5, 8)
FACTORS = np.exp(normal(8, seed=9)).astype(np.float64)
WEIGHTS = {
    "w": normal(8, 8, seed=1),
    "v": normal(8, 24, seed=2),
    "g": normal(8, seed=3),
    "b": normal(8, seed=4),
    "half": np.array(0.5, np.float32),
    "one": np.float32([2.0]),
    "heads": np.array([0, 0, 2, 4]),
    "flat": np.array([-1, 8]),
    "back": np.array([-1, 5, 8]),
    "odd": np.array([-1, 8, 5]),
    "widths": np.array([8, 8, 8]),
}


def _model(body: str) -> Model:
    return model_of(
        f"g (float[N, 5, 8] x) => (float[N, 5, 8] y) {{ {body}  y = Identity(t) }}", **WEIGHTS
    )


def _absorber(model: Model) -> Absorber | str:
    types = RuntimeContext().types(model)
    return Absorber.of(
        model, tensor(model, "t"), {name: each.shape for name, each in types.items()}
    )


ATTENTION = """a = Reshape(q, heads)  c = Transpose <perm = [0, 2, 1, 3]> (a)
  s = MatMul(c, d)  p = Softmax(s)  d = Transpose <perm = [0, 2, 3, 1]> (e)  e = Reshape(k, heads)
  f = Reshape(z, heads)  h = Transpose <perm = [0, 2, 1, 3]> (f)
  i = MatMul(p, h)  j = Transpose <perm = [0, 2, 1, 3]> (i)  t = Reshape(j, back0)"""


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ("t = LayerNormalization(x, g, b)", 2),
        ("t = LayerNormalization <axis = 2> (x, g)", 1),
        ("n = Mul(x, x)  t = Mul(g, n)", 1),
        ("n = Mul(x, g)  t = Add(n, b)", 2),
        ("t = MatMul(x, w)", 1),
        ("n = MatMul(x, w)  t = Add(b, n)", 2),
        ("n = MatMul(x, w)  m = Add(b, n)  t = Relu(m)", 2),
        ("n = MatMul(x, w)  s = Sigmoid(x)  t = Mul(s, n)", 1),
        ("n = MatMul(x, w)  s = Sigmoid(x)  t = Mul(n, s)", 1),
        ("n = MatMul(x, w)  m = Mul(x, g)  t = Add(n, m)", 2),
        ("f = Reshape(x, flat)  n = Gemm(f, w, b)  t = Reshape(n, back)", 1),
        ("l = Mul(x, g)  f = Reshape(l, flat)  n = Relu(f)  t = Reshape(n, back)", 1),
        ("n = MatMul(x, v)  q, t, k = Split <axis = 2> (n, widths)  u = Add(q, k)", 1),
        (
            "q = MatMul(x, w)  k = Mul(x, g)  z0 = MatMul(x, w)  z = Add(z0, b)"
            + ATTENTION.replace("back0", "back").replace("a = ", "  a = "),
            2,
        ),
        (
            "n = MatMul(x, v)  q, k, z = Split <axis = -1> (n, widths)  "
            + ATTENTION.replace("back0", "back"),
            1,
        ),
        ("n = MatMul(x, w)  o = Shape(n)  t = Relu(n)", 1),
    ],
)
def test_the_tensor_is_divided_and_nothing_else_changes(body: str, places: int) -> None:
    model = _model(body)
    before = outputs(model, {"x": X})["y"]
    absorber = _absorber(model)
    assert isinstance(absorber, Absorber), absorber
    assert len(absorber.places) == places
    edit = Editor(model)
    absorber.divide(edit, FACTORS)
    edit.finish()
    after = outputs(model, {"x": X})["y"]
    np.testing.assert_allclose(after, before / FACTORS, rtol=2e-4, atol=1e-5)
    assert {change.action.value for change in edit.changes} == {"changed"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("t = Sigmoid(x)", "passes no factors on"),
        ("t = Relu(x)", "'x' is computed by nothing that could scale it"),
        ("n = MatMul(x, w)  t = Relu(n)  u = Neg(n)", "'n' has other readers"),
        ("n = MatMul(x, w)  t = Mul(n, half)", "has one number for all channels, as in Gelu"),
        ("n = MatMul(x, w)  t = Mul(one, n)", "has one number for all channels"),
        ("n = MatMul(x, w)  t = Add(n, x)", "'x' has other readers"),
        ("t = LayerNormalization <axis = 1> (x, gg)  gg = Identity(wide)", "normalizes more than"),
        ("gg = Neg(g)  t = LayerNormalization(x, gg)", "is not stored"),
        ("n = MatMul(x, w)  m = Reshape(n, odd)  t = Transpose <perm = [0, 2, 1]> (m)", "mixes"),
        ("n = Mul(x, g)  t, u = Split <axis = 1, num_outputs = 2> (n)", "another axis"),
        ("n = ReduceMean <keepdims = 1> (x, last)  m = Mul(x, g)  t = Add(m, n)", "'n' is broad"),
    ],
)
def test_why_nothing_can_divide_it(body: str, reason: str) -> None:
    model = model_of(
        f"g (float[N, 5, 8] x) => (float y) {{ {body}  y = Identity(t) }}",
        **WEIGHTS,
        wide=normal(5, 8),
        last=np.array([2]),
    )
    found = _absorber(model)
    assert isinstance(found, str) and reason in found, found
