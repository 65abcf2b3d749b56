import numpy as np
import pytest

from onnxcompress.ir.model import Constant, Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import FoldBatchNorm
from tests.helpers import assert_same_outputs, ops, outputs

from .support import (
    Array,
    apply,
    apply_exact,
    model_of,
    normal,
    opset,
    reasons,
    stored,
    stored_input,
)

TOLERANCE = 2e-5
IMAGE = {"x": normal(2, 6, 5, 4)}
ROWS = {"x": normal(5, 6)}


def _statistics(channels: int, dtype: type = np.float32) -> dict[str, Array]:
    """Gammas of both signs and one of zero, variances far apart."""
    rng = np.random.default_rng(7)
    gamma = rng.standard_normal(channels)
    gamma[0] = 0.0
    variance = np.exp(rng.uniform(-5, 3, channels))
    mean, beta = rng.standard_normal((2, channels))
    arrays = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    return {name: array.astype(dtype) for name, array in arrays.items()}


NORM = "BatchNormalization <epsilon = 0.01> (h, gamma, beta, mean, variance)"


def _image(body: str, channels: int, **weights: Array) -> Model:
    text = f"g (float[N, 6, H, K] x) => (float[N, c, a, b] y) {{ {body} [norm] y = {NORM} }}"
    return model_of(text, **_statistics(channels), **weights)


def _rows(body: str, channels: int, **weights: Array) -> Model:
    text = f"g (float[N, 6] x) => (float[N, c] y) {{ {body} [norm] y = {NORM} }}"
    return model_of(text, **_statistics(channels), **weights)


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize(
    ("body", "shape", "channels"),
    [
        ("Conv (x, w%s)", (8, 6, 3, 3), 8),
        ("Conv <group = 2> (x, w%s)", (8, 3, 3, 3), 8),
        ("Conv <group = 6> (x, w%s)", (6, 1, 3, 3), 6),
        ("ConvTranspose <strides = [2, 2]> (x, w%s)", (6, 8, 3, 3), 8),
        ("ConvTranspose <group = 3> (x, w%s)", (6, 4, 3, 3), 12),
        ("ConvTranspose <group = 6> (x, w%s)", (6, 1, 3, 3), 6),
    ],
)
def test_convolutions(body: str, shape: tuple[int, ...], channels: int, bias: str) -> None:
    weights = {"w": normal(*shape), **({"b": normal(channels, seed=2)} if bias else {})}
    model = _image(f"[conv] h = {body % bias}", channels, **weights)
    apply_exact(FoldBatchNorm(), model, IMAGE, tolerance=TOLERANCE)
    assert ops(model) == [body.split()[0]]


def test_the_values_are_those_of_float64() -> None:
    w, b, s = normal(4, 6, 1, 1), normal(4, seed=2), _statistics(4)
    model = _image("[conv] h = Conv(x, w, b)", 4, w=w, b=b)
    apply(FoldBatchNorm(), model)
    wide = {name: array.astype(np.float64) for name, array in s.items()}
    scale = wide["gamma"] / np.sqrt(wide["variance"] + np.float32(0.01))
    expected = (w.astype(np.float64) * scale[:, None, None, None]).astype(np.float32)
    np.testing.assert_array_equal(stored_input(model, "conv", 1), expected)
    shift = (b - wide["mean"]) * scale + wide["beta"]
    np.testing.assert_allclose(stored_input(model, "conv", 2), shift, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bias", ["", ", b", ", one", ", row"])
@pytest.mark.parametrize(("flag", "shape"), [(0, (6, 4)), (1, (4, 6))])
def test_gemm(flag: int, shape: tuple[int, ...], bias: str) -> None:
    model = _rows(
        f"h = Gemm <transB = {flag}, alpha = 0.5> (x, w{bias})",
        4,
        w=normal(*shape),
        b=normal(4),
        one=normal(1),
        row=normal(1, 4),
    )
    apply_exact(FoldBatchNorm(), model, ROWS, tolerance=TOLERANCE)
    assert ops(model) == ["Gemm"]


@pytest.mark.parametrize(
    "body", ["t = MatMul(x, w)  h = Add(t, b)", "t = MatMul(x, w)  h = Add(b, t)"]
)
def test_matmul_with_its_bias(body: str) -> None:
    model = _rows(body, 4, w=normal(6, 4), b=normal(4))
    apply_exact(FoldBatchNorm(), model, ROWS, tolerance=TOLERANCE)
    assert ops(model) == ["MatMul", "Add"]


def test_matmul_without_bias_gets_an_add() -> None:
    model = _rows("h = MatMul(x, w)", 4, w=normal(6, 4))
    apply_exact(FoldBatchNorm(), model, ROWS, tolerance=TOLERANCE)
    assert ops(model) == ["MatMul", "Add"]


def test_matmul_of_rank_three_normalizes_another_axis() -> None:
    model = model_of(
        f"g (float[2, 4, 6] x) => (float[2, 4, 4] y) {{ h = MatMul(x, w) [norm] y = {NORM} }}",
        w=normal(6, 4),
        **_statistics(4),
    )
    report = apply_exact(FoldBatchNorm(), model, {"x": normal(2, 4, 6)})
    assert ops(model) == ["MatMul", "BatchNormalization"]
    assert reasons(report) == {
        "norm": "normalizes axis 1, which is not known to be the MatMul's last"
    }


def test_two_normalizations_in_a_row_and_names() -> None:
    model = model_of(
        f"""g (float[N, 6, H, K] x) => (float[N, 4, a, b] y) {{ k = Conv(x, w)
          h = BatchNormalization(k, gamma, beta, mean, variance)  y = {NORM} }}""",
        w=normal(4, 6, 1, 1),
        **_statistics(4),
    )
    apply_exact(FoldBatchNorm(), model, IMAGE, tolerance=TOLERANCE)
    assert ops(model) == ["Conv"]
    assert model.graph.outputs[0].name == "y"


def test_a_shared_convolution_stays() -> None:
    model = model_of(
        f"""g (float[N, 6, H, K] x) => (float[N, 4, a, b] y, float[N, 4, a, b] z) {{
          h = Conv(x, w)  [norm] y = {NORM}  z = Relu(h) }}""",
        w=normal(4, 6, 1, 1),
        **_statistics(4),
    )
    report = apply_exact(FoldBatchNorm(), model, IMAGE)
    assert reasons(report) == {"norm": "'h' has other readers"}


def test_a_returned_convolution_stays() -> None:
    model = model_of(
        f"""g (float[N, 6, H, K] x) => (float[N, 4, a, b] y, float[N, 4, a, b] h) {{
          h = Conv(x, w)  [norm] y = {NORM} }}""",
        w=normal(4, 6, 1, 1),
        **_statistics(4),
    )
    assert reasons(apply_exact(FoldBatchNorm(), model, IMAGE)) == {"norm": "'h' has other readers"}


def test_other_readers_of_the_weight_keep_their_values() -> None:
    w = normal(4, 6, 1, 1)
    model = model_of(
        f"""g (float[N, 6, H, K] x) => (float[N, 4, a, b] y, float[N, 4, a, b] z) {{
          h = Conv(x, w, b)  y = {NORM}  [other] z = Conv(x, w, b) }}""",
        w=w,
        b=normal(4),
        **_statistics(4),
    )
    apply_exact(FoldBatchNorm(), model, IMAGE, tolerance=TOLERANCE)
    assert ops(model) == ["Conv", "Conv"]
    np.testing.assert_array_equal(stored_input(model, "other", 1), w)


@pytest.mark.parametrize(
    ("norm", "extra", "reason"),
    [
        ("y, m, v = BatchNormalization <training_mode = 1> (h, gamma, beta, mean, variance)", "",
         "normalizes by the batch's own statistics"),
        ("y = BatchNormalization(h, gamma, beta, mean, live)", ", float[4] live",
         "its statistics are not stored"),
    ],
)  # fmt: skip
def test_normalizations_that_are_no_constant_factor(norm: str, extra: str, reason: str) -> None:
    model = model_of(
        f"""g (float[N, 6, H, K] x{extra}) => (float[N, 4, a, b] y) {{
          h = Conv(x, w)  [norm] {norm} }}""",
        w=normal(4, 6, 1, 1),
        **_statistics(4),
    )
    feeds = {**IMAGE, **({"live": np.ones(4, np.float32)} if extra else {})}
    assert reasons(apply_exact(FoldBatchNorm(), model, feeds)) == {"norm": reason}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("h = Relu(x)", "reads Relu, which is not linear with a stored weight"),
        ("k = Conv(x, w)  h = Relu(k)", "reads Relu, which is not linear with a stored weight"),
        ("h = Identity(x)", "reads Identity, which is not linear with a stored weight"),
        ("[c] h = Conv(x, v)", "the weight of 'c' is not stored"),
        ("[c] h = Conv(x, w, u)", "the bias of 'c' is not stored"),
    ],
)
def test_sources_that_cannot_take_it(body: str, reason: str) -> None:
    model = model_of(
        f"""g (float[N, 6, H, K] x, float[6, 6, 1, 1] v, float[6] u) => (float[N, 6, a, b] y) {{
          {body}  [norm] y = {NORM} }}""",
        w=normal(6, 6, 1, 1),
        **_statistics(6),
    )
    feeds = {**IMAGE, "v": normal(6, 6, 1, 1), "u": normal(6)}
    assert reasons(apply_exact(FoldBatchNorm(), model, feeds)) == {"norm": reason}


def test_a_normalized_input_stays() -> None:
    model = model_of(
        f"g (float[N, 6, H, K] h) => (float[N, 6, a, b] y) {{ [norm] y = {NORM} }}",
        **_statistics(6),
    )
    report = apply_exact(FoldBatchNorm(), model, {"h": IMAGE["x"]})
    assert reasons(report) == {"norm": "reads a graph input or a stored tensor, not a linear node"}


def test_a_gemm_with_beta_or_a_bias_of_rows_stays() -> None:
    model = _rows("[gemm] h = Gemm <beta = 0.5> (x, w, b)", 4, w=normal(6, 4), b=normal(4))
    report = apply_exact(FoldBatchNorm(), model, ROWS)
    assert reasons(report) == {"norm": "'gemm' scales its bias (beta)"}
    model = _rows("[gemm] h = Gemm (x, w, b)", 4, w=normal(6, 4), b=normal(5, 1))
    report = apply_exact(FoldBatchNorm(), model, ROWS)
    assert reasons(report) == {"norm": "the bias of 'gemm' is not one value a channel"}


def test_float16() -> None:
    model = model_of(
        f"g (float16[N, 6, H, K] x) => (float16[N, 8, a, b] y) {{ h = Conv(x, w)  y = {NORM} }}",
        w=normal(8, 6, 1, 1, dtype=np.float16),
        **_statistics(8, np.float16),
    )
    feeds = {"x": normal(2, 6, 3, 3, dtype=np.float16)}
    before = outputs(model, feeds)
    apply(FoldBatchNorm(), model)
    assert ops(model) == ["Conv"]
    scale = float(np.abs(before["y"]).max())
    np.testing.assert_allclose(outputs(model, feeds)["y"], before["y"], atol=0.004 * scale)


def test_float16_that_would_overflow_stays() -> None:
    s = _statistics(4, np.float16)
    s["variance"][1], s["gamma"][1] = 0.0, 60000.0
    text = """g (float16[N, 2, H, K] x) => (float16[N, 4, a, b] y) { [conv] h = Conv(x, w)
      [norm] y = BatchNormalization <epsilon = 0.00001> (h, gamma, beta, mean, variance) }"""
    model = model_of(text, w=np.full((4, 2, 1, 1), 4, np.float16), **s)
    report = apply(FoldBatchNorm(), model)
    assert reasons(report) == {
        "norm": "the folded weight of 'conv' would leave the range of float16"
    }


@pytest.mark.parametrize("version", [7, 9, 14])
def test_old_opsets(version: int) -> None:
    text = f"g (float[N, 6, H, K] x) => (float[N, 4, a, b] y) {{ h = Conv(x, w)  y = {NORM} }}"
    model = model_of(opset(version) + text, w=normal(4, 6, 3, 3), **_statistics(4))
    apply_exact(FoldBatchNorm(), model, IMAGE, tolerance=TOLERANCE)
    assert ops(model) == ["Conv"]


@pytest.mark.parametrize("choice", [True, False])
def test_in_branches(choice: bool) -> None:
    model = model_of(
        f"""g (float[N, 6, H, K] x, bool c) => (float[N, 4, a, b] y) {{
          h = Conv(x, w)
          y = If (c) <
            then_branch = t () => (float[N, 4, a, b] r) {{ r = {NORM} }},
            else_branch = e () => (float[N, 4, a, b] s) {{ k = Conv(x, w)
              s = BatchNormalization(k, gamma, beta, mean, variance) }}> }}""",
        w=normal(4, 6, 1, 1),
        **_statistics(4),
    )
    feeds = {**IMAGE, "c": np.array(choice)}
    before = outputs(model, feeds)
    apply(FoldBatchNorm(), model)
    assert_same_outputs(before, outputs(model, feeds), TOLERANCE)
    assert "BatchNormalization" not in ops(model)


def test_excluded() -> None:
    model = _image("h = Conv(x, w)", 4, w=normal(4, 6, 1, 1))
    pass_ = FoldBatchNorm(overrides=(Override(None, nodes=("norm",)),))
    assert reasons(apply_exact(pass_, model, IMAGE)) == {"norm": EXCLUDED}


@pytest.mark.parametrize("alike", [True, False])
def test_the_branches_of_a_siamese_net_go_on_sharing_a_weight(alike: bool) -> None:
    other = "h" if alike else "g"
    model = model_of(
        f"""net (float[N, 16, 6, 6] l, float[N, 16, 6, 6] r) => (float[N, 32, 4, 4] y) {{
          a = Conv(l, w, b)  p = BatchNormalization(a, g, g, g, v)
          c = Conv(r, w, b)  q = BatchNormalization(c, {other}, g, g, v)  y = Sub(p, q) }}""",
        w=normal(32, 16, 3, 3),
        b=normal(32, seed=1),
        g=normal(32, seed=2),
        h=normal(32, seed=2),
        v=np.abs(normal(32, seed=3)) + 0.1,
    )
    if not alike:
        model = _with_other_scale(model)
    feeds = {name: normal(2, 16, 6, 6, seed=seed) for seed, name in enumerate("lr")}
    report = apply_exact(FoldBatchNorm(), model, feeds, tolerance=TOLERANCE * 10)
    assert [each.shape for each in stored(model).values()].count((32, 16, 3, 3)) == 1
    assert ops(model).count("BatchNormalization") == (0 if alike else 2)
    if not alike:
        assert any("others read 'w' too" in told for told in reasons(report).values())


def _with_other_scale(model: Model) -> Model:
    norm = next(node for node in reversed(model.graph.nodes) if node.op == "BatchNormalization")
    norm.inputs[1] = Constant("other", normal(32, seed=8))
    return model
