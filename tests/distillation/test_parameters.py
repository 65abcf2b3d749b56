"""What is trained in a model, and what is left and told."""

import numpy as np
import pytest
import torch

from onnxcompress.distillation.parameters import (
    FloatParameter,
    IntegerParameter,
    ScaleParameter,
    find_parameters,
)
from onnxcompress.ir.model import Model
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeWeights
from onnxcompress.qdq.integer_weights import WeightGranularity
from onnxcompress.qdq.weight_forms import WeightForm
from onnxcompress.runtime.context import RuntimeContext
from tests.passes.support import model_of, normal, opset


def names(model: Model, **options: object) -> dict[str, str]:
    found, _ = find_parameters(model, torch.float32, **options)  # type: ignore[arg-type]
    return {each.constant.name: type(each).__name__ for each in found}


def test_statistics_bounds_and_sizes_are_no_weights() -> None:
    model = model_of(
        opset(17)
        + """
        g (float[n,3,8,8] x) => (float y) <float low = {0.0}, float high = {6.0},
            int64[2] flat = {0, -1}, float[4] sizes = {1.0, 1.0, 2.0, 2.0}> {
            c = Conv(x, w, b)
            k = BatchNormalization(c, gamma, beta, mean, var)
            r = Clip(k, low, high)
            u = Resize(r, , sizes)
            f = Reshape(u, flat)
            d = Div(f, spread)
            y = MatMul(d, p)
        }""",
        w=normal(4, 3, 3, 3),
        b=normal(4),
        gamma=normal(4),
        beta=normal(4),
        mean=normal(4),
        var=np.abs(normal(4)),
        spread=np.abs(normal(576)),
        p=normal(576, 2),
    )
    assert names(model) == dict.fromkeys(["w", "b", "gamma", "beta", "p"], FloatParameter.__name__)


def test_a_tensor_that_is_a_weight_and_something_else_is_none() -> None:
    model = model_of(
        opset(17)
        + "g (float[n,4] x) => (float y) { a = MatMul(x, w)  m = ReduceMax(w)  y = Add(a, m) }",
        w=normal(4, 4),
    )
    assert names(model) == {}


def test_weights_behind_moves_and_dequantization_are_found() -> None:
    model = model_of(
        opset(17)
        + """
        g (float[n,4] x) => (float y) <float s = {0.1}, int8 z = {3}> {
            t = Transpose(w)
            a = MatMul(x, t)
            d = DequantizeLinear(q, s, z)
            y = MatMul(a, d)
        }""",
        w=normal(5, 4),
        q=np.arange(10, dtype=np.int8).reshape(5, 2),
    )
    both = {"w": FloatParameter.__name__, "q": IntegerParameter.__name__}
    assert names(model) == both
    assert names(model, learn_scales=True) == {**both, "s": ScaleParameter.__name__}
    quantized = next(each for each in model.constants() if each.name == "q")
    assert names(model, learn_scales=True, frozen={quantized}) == {"w": "FloatParameter"}


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_left_and_told(dtype) -> None:
    kind = {np.float16: "float16", np.float64: "double"}[dtype]
    model = model_of(
        opset(17) + f"g ({kind}[n,4] x) => ({kind} y) {{ [last] y = MatMul(x, w) }}",
        w=normal(4, 4, dtype=dtype),
    )
    found, left = find_parameters(model, torch.float32)
    assert found == []
    assert left == {"last": f"'w' is {np.dtype(dtype)}; float32 is trained"}


def test_integers_of_fused_kernels_are_left_and_told() -> None:
    model = model_of(
        opset(21) + "g (float[n,64] x) => (float y) { h = MatMul(x, w)  [last] y = Gemm(h, v) }",
        w=normal(64, 64),
        v=normal(64, 3),
    )
    pass_ = QuantizeWeights(granularity=WeightGranularity.PER_BLOCK, form=WeightForm.MATMUL_NBITS)
    PassManager([pass_]).run(model, RuntimeContext())
    _, left = find_parameters(model, torch.float32)
    assert left == {
        "MatMulNBits_h_nbits": "MatMulNBits stores integers of its own; train before it comes"
    }


def test_steps_move_scales_by_shares_of_themselves() -> None:
    model = model_of(
        opset(13) + "g (float[n,2] x) => (float y) <float s = {0.5}> {"
        " w = DequantizeLinear(q, s)  y = MatMul(x, w) }",
        q=np.array([[2, -2], [4, 6]], np.int8),
    )
    integers, scale = find_parameters(model, torch.float32, learn_scales=True)[0]
    assert scale.array().tolist() == 0.5
    with torch.no_grad():
        scale.master -= 30.0  # however far it goes, it stays positive
    assert 0 < float(scale.array()) < 1e-12
    with torch.no_grad():
        scale.master += 30.0 + np.log(2)
    assert float(scale.array()) == pytest.approx(1.0)
    assert integers.array().tolist() == [[1, -1], [2, 3]]
