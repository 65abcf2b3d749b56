import numpy as np
import pytest

from onnxcompress.ir.edit import Editor
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import EqualizeChannels
from onnxcompress.runtime.context import RuntimeContext
from tests.helpers import ops, outputs

from .support import Array, apply, apply_exact, model_of, normal, reasons, stored_input

IMAGES = normal(8, 3, 8, 8)
UNEVEN = np.exp(normal(6, seed=9) * 2)


def _uneven(*shape: int, seed: int) -> Array:
    weight = normal(*shape, seed=seed)
    scaled: Array = weight * UNEVEN.reshape([-1] + [1] * (len(shape) - 1))
    return scaled


CHAIN = """g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
  [expand] h = Conv(x, w1, b1)  r = Relu(h)
  [depthwise] d = Conv <group = 6, pads = [1, 1, 1, 1]> (r, w2, b2)
  [grouped] e = Conv <group = 2> (d, w3)  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (e)
  f = Flatten(p)  [head] y = Gemm <transB = 1> (f, w4, b4) }"""
WEIGHTS = {
    "w1": _uneven(6, 3, 1, 1, seed=1),
    "b1": normal(6, seed=2),
    "w2": _uneven(6, 1, 3, 3, seed=3),
    "b2": normal(6, seed=4),
    "w3": _uneven(6, 3, 1, 1, seed=5),
    "w4": normal(5, 96, seed=6),
    "b4": normal(5, seed=7),
}


def test_a_chain_keeps_its_outputs_and_gets_even_ranges() -> None:
    model = model_of(CHAIN, **WEIGHTS)
    before = outputs(model, {"x": IMAGES})["y"]
    report = apply(EqualizeChannels(), model)
    after = outputs(model, {"x": IMAGES})["y"]
    assert np.abs(after - before).max() < 1e-5 * np.abs(before).max()
    assert report.modified and list(reasons(report)) == ["head"]
    one, two = (np.abs(stored_input(model, name, 1)) for name in ("expand", "depthwise"))
    three, four = (np.abs(stored_input(model, name, 1)) for name in ("grouped", "head"))
    np.testing.assert_allclose(one.max((1, 2, 3)), two.max((1, 2, 3)), rtol=5e-3)
    read = three.reshape(2, 3, 3).max(1).reshape(6)
    np.testing.assert_allclose(two.max((1, 2, 3)), read, rtol=5e-3)
    np.testing.assert_allclose(three.max((1, 2, 3)), four.reshape(5, 6, 16).max((0, 2)), rtol=5e-3)
    spread = np.abs(WEIGHTS["w1"]).max((1, 2, 3))
    assert one.max() / one.max((1, 2, 3)).min() < 0.5 * spread.max() / spread.min()


def test_two_products_with_a_leaky_relu_between() -> None:
    model = model_of(
        """g (float[N, 4] x) => (float[N, 2] y) {
          h = Gemm(x, w1, b1)  r = LeakyRelu(h)  y = Gemm <transB = 1> (r, w2) }""",
        w1=normal(4, 6) * UNEVEN,
        b1=normal(6, seed=1),
        w2=normal(2, 6, seed=2),
    )
    assert apply_exact(EqualizeChannels(), model, {"x": normal(5, 4)}, tolerance=1e-4).modified
    assert ops(model) == ["Gemm", "LeakyRelu", "Gemm"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[a] h = Conv(x, w)  r = Clip(h, low, six)  [b] y = Conv(r, v)", "a bound is one number"),
        ("[a] h = Conv(x, w)  r = Add(h, x)  [b] y = Conv(r, v)", "is read by Add"),
        ("[a] h = Conv(x, w)  i = Relu(h)  [b] j = Conv(i, v)  y = Add(i, j)", "'i' has other"),
        ("[a] h = Conv(x, w)  r = Sigmoid(h)  [b] y = Conv(r, v)", "is read by Sigmoid"),
        ("[a] h = Conv(x, w)  [b] y = Conv(h, w)", "the weight or bias of 'a' has other readers"),
        ("[a] h = Conv(x, w)  [b] y = Conv(v, h)", "'h' is not the first input of 'b'"),
        ("[a] h = Conv(x, w)  [b] y = Conv(h, live)", "the weight of 'b' is not stored"),
        ("[a] h = Conv(x, live)  [b] y = Conv(h, w)", "the weight of 'a' is not stored"),
        ("[a] h = Conv(x, w)  f = Flatten <axis = 2> (h)  [b] y = Gemm(f, m)", "is flattened"),
    ],
)
def test_what_ends_a_chain_is_told(body: str, reason: str) -> None:
    model = model_of(
        f"""g (float[N, 3, 8, 8] x, float[3, 3, 1, 1] live) => (float y)
          <float low = {{0}}, float six = {{6}}> {{ {body} }}""",
        w=normal(3, 3, 1, 1),
        v=normal(3, 3, 1, 1, seed=1),
        m=normal(64, 2),
    )
    edit = Editor(model)
    EqualizeChannels().run(model, edit, RuntimeContext())
    assert not edit.changes
    told = {skip.node: skip.reason for skip in edit.skips}
    assert told["a"].startswith(reason)


def test_an_override_leaves_a_node_and_its_links_alone() -> None:
    model = model_of(CHAIN, **WEIGHTS)
    pass_ = EqualizeChannels(overrides=(Override(None, nodes=("depthwise",)),))
    report = apply(pass_, model)
    assert reasons(report)["expand"] == reasons(report)["depthwise"] == EXCLUDED
    np.testing.assert_array_equal(stored_input(model, "depthwise", 1), WEIGHTS["w2"])
    assert report.modified  # grouped and head
