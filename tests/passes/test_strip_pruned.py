import numpy as np
import pytest

from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import StripPruned
from tests.helpers import node, ops

from .support import Array, apply_exact, model_of, normal, reasons, stored_input

IMAGE = {"x": normal(2, 3, 6, 6)}


def _two_convs(tail: str = "r = Relu(h)", pads: int = 0, **weights: Array) -> Model:
    given = {"v": normal(5, 3, 1, 1), "b": normal(5, seed=1), "w": normal(4, 5, 3, 3, seed=2)}
    border = f"<pads = [{pads}, {pads}, {pads}, {pads}]>"
    return model_of(
        "g (float[N, 3, 6, 6] x) => (float[N, 4, h, w] y) "
        f"{{ [first] h = Conv(x, v, b)  {tail}  [second] y = Conv {border} (r, w) }}",
        **{**given, **weights},
    )


def _without(values: Array, *rows: int) -> Array:
    values = values.copy()
    values[list(rows)] = 0
    return values


def test_what_a_dead_filter_still_emits_goes_to_the_bias_of_its_reader() -> None:
    bias = np.array([1, 2, 3, -4, 5], np.float32)
    weight = normal(4, 5, 3, 3, seed=2)
    model = _two_convs(v=_without(normal(5, 3, 1, 1), 1, 3), b=bias)
    apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    assert stored_input(model, "first", 1).shape == (3, 3, 1, 1)
    assert stored_input(model, "second", 1).shape == (4, 3, 3, 3)
    # Relu(2) = 2 at every place of the window, Relu(-4) = 0.
    np.testing.assert_allclose(
        stored_input(model, "second", 2), 2 * weight[:, 1].sum(axis=(1, 2)), rtol=1e-5
    )


def test_at_a_border_only_zeros_can_go() -> None:
    bias = np.array([1, 2, 3, -4, 5], np.float32)
    model = _two_convs(pads=1, v=_without(normal(5, 3, 1, 1), 1, 3), b=bias)
    apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    assert stored_input(model, "first", 1).shape == (4, 3, 1, 1)


def test_what_nobody_multiplies_goes_whatever_it_is() -> None:
    weight = normal(4, 5, 3, 3, seed=2)
    weight[:, 2] = 0
    model = _two_convs(tail="r = Sigmoid(h)", pads=1, w=weight)
    apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    np.testing.assert_array_equal(
        stored_input(model, "first", 1), np.delete(normal(5, 3, 1, 1), 2, axis=0)
    )


FUNCTIONS = (
    "Sigmoid(h)",
    "HardSigmoid(h)",
    "Softplus(h)",
    "Gelu(h)",
    'Gelu <approximate = "tanh"> (h)',
    "Clip(h, , six)",  # the lower bound is omitted
    "Clip(h, six)",
    "LeakyRelu <alpha = 0.3> (h)",
    "Elu(h)",
    "HardSwish(h)",
    "Tanh(h)",
)


@pytest.mark.parametrize("call", FUNCTIONS)
@pytest.mark.parametrize("bias", [0.0, 1.5, -1.5])
def test_functions_of_a_constant_are_folded(call: str, bias: float) -> None:
    values = normal(5)
    values[0] = bias
    model = _two_convs(
        tail=f"r = {call}",
        v=_without(normal(5, 3, 1, 1), 0),
        b=values,
        six=np.array(6, np.float32),
    )
    apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    assert stored_input(model, "second", 1).shape == (4, 4, 3, 3)


def test_one_unit_of_a_group_stays() -> None:
    model = _two_convs(v=np.zeros((5, 3, 1, 1), np.float32), b=np.zeros(5, np.float32))
    apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    assert stored_input(model, "first", 1).shape == (1, 3, 1, 1)


def test_what_is_empty_only_once_others_went_goes_too() -> None:
    """Filter 1 of the second reads filter 0 of the first alone, which goes for its zeros."""
    middle = normal(4, 5, 1, 1, seed=1)
    middle[1] = 0
    middle[1, 0] = 1
    model = _two_convs(
        tail="k = Conv(h, m)  r = Sigmoid(k)",
        v=_without(normal(5, 3, 1, 1), 0),
        b=np.array([0, 1, 2, 3, 4], np.float32),
        m=middle,
        w=normal(4, 4, 3, 3, seed=2),
    )
    apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    assert stored_input(model, "first", 1).shape == (4, 3, 1, 1)
    assert stored_input(model, "second", 1).shape == (4, 3, 3, 3)
    np.testing.assert_allclose(  # Sigmoid(0) = 0.5 at every place of the window
        stored_input(model, "second", 2),
        0.5 * normal(4, 4, 3, 3, seed=2)[:, 1].sum(axis=(1, 2)),
        rtol=1e-5,
    )


def test_nothing_zero_is_told() -> None:
    model = _two_convs()
    report = apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    assert not report.changes
    assert "none of its 5 units is zero" in reasons(report).values()


def test_an_excluded_node_keeps_its_group() -> None:
    model = _two_convs(v=_without(normal(5, 3, 1, 1), 1), b=_without(normal(5), 1))
    report = apply_exact(
        StripPruned(overrides=(Override(None, nodes=("second",)),)), model, IMAGE, tolerance=1e-5
    )
    assert not report.changes and EXCLUDED in reasons(report).values()


def test_attributes_follow_the_channels() -> None:
    model = model_of(
        "g (float[N, 3, 6, 6] x) => (float[N, 2, h, w] y) "
        "<int64[8] borders = {0, 2, 0, 0, 0, 1, 0, 0}, int64[2] parts = {4, 5}> {"
        " [a] h = Conv(x, v, b)  [pad] p = Pad(h, borders)"
        " [split] s, t = Split <axis = 1> (p, parts)"
        " [depthwise] d = Conv <group = 4> (s, u)  c = Concat <axis = 1> (d, t)"
        " [z] y = Conv(c, w) }",
        v=_without(normal(6, 3, 1, 1), 0, 5),
        b=_without(normal(6), 0, 5),
        u=normal(4, 1, 1, 1),
        w=normal(2, 9, 1, 1),
    )
    apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    # Zero are both channels put before, the first and the last filter, and the channel put behind.
    # Of the two before, one stays, as the last of its group; so does the one behind.
    assert stored_input(model, "a", 1).shape == (4, 3, 1, 1)
    assert stored_input(model, "pad", 1).tolist() == [0, 1, 0, 0, 0, 1, 0, 0]
    assert stored_input(model, "split", 1).tolist() == [2, 4]
    assert node(model, "depthwise").int_attr("group", 1) == 2
    assert stored_input(model, "z", 1).shape == (2, 6, 1, 1)


def test_recurrent_units_are_cut() -> None:
    w, r, b = normal(1, 16, 3), normal(1, 16, 4, seed=1), normal(1, 32, seed=2)
    for gate in range(4):
        w[:, gate * 4 + 2] = r[:, gate * 4 + 2] = 0
    for row in range(8):
        b[:, row * 4 + 2] = 0
    model = model_of(
        "g (float[5, N, 3] x) => (float[5, N, 2] y) <int64[1] axes = {1}> {"
        " [lstm] h = LSTM <hidden_size = 4> (x, w, r, b)  f = Squeeze(h, axes)"
        " [last] y = MatMul(f, z) }",
        w=w,
        r=r,
        b=b,
        z=normal(4, 2),
    )
    apply_exact(StripPruned(), model, {"x": normal(5, 2, 3)}, tolerance=1e-5)
    assert node(model, "lstm").int_attr("hidden_size", 0) == 3
    assert stored_input(model, "lstm", 2).shape == (1, 12, 3)
    assert stored_input(model, "last", 1).shape == (3, 2)


def test_quantized_channels_are_cut_with_their_scales() -> None:
    levels = normal(6, 3, 1, 1, seed=4) * 40
    stored = _without(levels.astype(np.int8), 1, 4)
    model = model_of(
        "g (float[N, 3, 6, 6] x) => (float[N, 2, 6, 6] y) {"
        " [dequantize] v = DequantizeLinear <axis = 0> (q, s, z)  [first] h = Conv(x, v)"
        " r = Relu(h)  [second] y = Conv(r, w) }",
        q=stored,
        s=np.linspace(0.01, 0.06, 6, dtype=np.float32),
        z=np.zeros(6, np.int8),
        w=normal(2, 6, 1, 1),
    )
    apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    np.testing.assert_array_equal(stored_input(model, "dequantize", 0), stored[[0, 2, 3, 5]])
    np.testing.assert_allclose(stored_input(model, "dequantize", 1), [0.01, 0.03, 0.04, 0.06])


def test_a_bias_that_two_convolutions_share_is_cut_once() -> None:
    dead = _without(normal(4, 3, 1, 1), 1), _without(normal(4, 3, 1, 1, seed=5), 1)
    model = model_of(
        "g (float[N, 3, 6, 6] x) => (float[N, 2, 6, 6] y) {"
        " [a] h = Conv(x, u, b)  [c] k = Conv(x, v, b)  s = Add(h, k)  [last] y = Conv(s, w) }",
        u=dead[0],
        v=dead[1],
        b=_without(normal(4), 1),
        w=normal(2, 4, 1, 1),
    )
    apply_exact(StripPruned(), model, IMAGE, tolerance=1e-5)
    assert node(model, "a").inputs[2] is node(model, "c").inputs[2]
    assert stored_input(model, "a", 2).shape == (3,)
    assert ops(model) == ["Conv", "Conv", "Add", "Conv"]
