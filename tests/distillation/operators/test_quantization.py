import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.operators.quantization import broadcast_scale, dequantize, quantize
from onnxcompress.distillation.values import as_tensor
from tests import helpers
from tests.distillation.operators.support import check, copied

RNG = np.random.default_rng(0)
FLOAT = onnx.TensorProto.FLOAT


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def halves(*shape):
    """Numbers of which many lie on a tie once divided by a power of two."""
    return (RNG.integers(-80, 80, shape) / 16).astype(np.float32)


def qdq_model(shape, scale, zero, *, opset=21, **attributes):
    """`x` quantized to `q` and dequantized to `y`."""
    given = {key: value for key, value in attributes.items() if key != "saturate"}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **given),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, shape)],
        [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")],
    )
    domains = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def interpreter(model):
    return Interpreter(helpers.import_model(copied(model)))


def scales(*shape):
    return np.asarray(2.0 ** RNG.integers(-4, 0, shape), np.float32)


CASES = [
    ((3, 4), (), np.uint8, 10, {}),
    ((3, 4), (), np.int8, 13, {}),
    ((3, 4), (1,), np.int8, 13, {}),
    ((3, 4), (4,), np.int8, 13, {}),
    ((2, 3, 4), (3,), np.uint8, 19, {"axis": -2}),
    ((2, 3, 4), (2,), np.uint16, 21, {"axis": 0}),
    ((2, 3, 4), (), np.int16, 21, {}),
    ((5, 4), (), ml_dtypes.int4, 21, {}),
    ((5, 4), (3, 4), ml_dtypes.int4, 21, {"axis": 0, "block_size": 2}),
    ((3, 6), (3, 2), ml_dtypes.uint4, 21, {"axis": 1, "block_size": 3}),
    ((3, 4), (), ml_dtypes.float8_e4m3fn, 19, {}),
    ((3, 4), (), ml_dtypes.float8_e5m2, 19, {"saturate": 1}),
    ((3, 4), (4,), ml_dtypes.float8_e5m2fnuz, 21, {"axis": 1}),
]


@pytest.mark.parametrize(("shape", "of_scale", "dtype", "opset", "attributes"), CASES)
def test_quantize_then_dequantize(shape, of_scale, dtype, opset, attributes):
    small = "float8" in np.dtype(dtype).name
    zero = np.zeros(of_scale) if small else RNG.integers(0, 8, of_scale)
    model = qdq_model(
        shape, scales(*of_scale), np.asarray(zero).astype(dtype), opset=opset, **attributes
    )
    for x in (halves(*shape), 100000 * halves(*shape)):
        expected = helpers.run(model, x=x)
        found = interpreter(model).run({"x": x})["y"]
        np.testing.assert_array_equal(as_tensor(found).numpy(), expected)
        trained = interpreter(model).run({"x": torch.from_numpy(x).requires_grad_()})["y"]
        np.testing.assert_array_equal(as_tensor(trained).detach().numpy(), expected)


def test_integers_are_plain_without_gradients_and_floats_with_them():
    model = qdq_model((3, 4), scales(), np.array(3, np.uint8))
    x = torch.from_numpy(halves(3, 4))
    plain = as_tensor(interpreter(model).run({"x": x}, ["q"])["q"])
    through = as_tensor(interpreter(model).run({"x": x.requires_grad_()}, ["q"])["q"])
    assert plain.dtype == torch.uint8
    assert through.dtype == torch.float32
    assert through.requires_grad
    torch.testing.assert_close(through.detach(), plain.float(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_quantize_linear_by_itself(dtype):
    zero = np.array(5, dtype)
    check("QuantizeLinear", [halves(4, 5), scales(), zero], tolerance=0)
    check("DequantizeLinear", [halves(4, 5).astype(dtype), scales(), zero], tolerance=0)


def test_without_a_zero_point():
    check("QuantizeLinear", [halves(4, 5), scales()], tolerance=0, opset=13)
    output = {"output_dtype": onnx.TensorProto.INT16}
    check("QuantizeLinear", [1000 * halves(4, 5), scales()], tolerance=0, **output)
    integers = RNG.integers(-(2**30), 2**30, (3, 4)).astype(np.int32)
    check("DequantizeLinear", [integers, scales(4)], tolerance=0, axis=1)


def test_half_precision_scales():
    x, scale = halves(3, 4).astype(np.float16), scales(4).astype(np.float16)
    check("QuantizeLinear", [x, scale, np.zeros(4, np.int8)], tolerance=0)
    integers = x.astype(np.int8)
    check("DequantizeLinear", [integers, scale, np.ones(4, np.int8)], tolerance=0)


def test_gradients_are_those_of_lsq():
    """Esser et al. 2020, equations 3 and 5: for the scale, round(v) - v inside, the end outside."""
    x = torch.tensor([-300.0, -0.7, 0.2, 0.5, 1.4, 200.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    arriving = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    integers = quantize(x, scale, None, -128, 127)
    dequantize(integers, scale, None).backward(arriving)
    assert integers.tolist() == [-128, -1, 0, 1, 3, 127]
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 0]
    each = torch.tensor([-128, -1 + 1.4, 0 - 0.4, 1 - 1, 3 - 2.8, 127])
    torch.testing.assert_close(scale.grad, (each * arriving).sum())


def test_what_rounds_into_the_range_from_outside_is_outside():
    x = torch.tensor([127.3, 126.7, -128.4], requires_grad=True)
    quantize(x, torch.tensor(1.0), None, -128, 127).sum().backward()
    assert x.grad.tolist() == [0, 1, 0]


def test_gradients_of_zero_points_are_those_of_lsq_plus():
    """Bhalgat et al. 2020: none inside, minus the scale outside."""
    x = torch.tensor([[-300.0, 0.2, 200.0], [0.1, 0.2, 0.3]])
    scale = torch.tensor([0.5, 0.25], requires_grad=True)
    zero = torch.tensor([10.0, 3.0], requires_grad=True)
    integers = quantize(x, scale, zero, 0, 255, axis=0)
    dequantize(integers, scale, zero, axis=0).backward(torch.ones(2, 3))
    assert integers.tolist() == [[0, 10, 255], [3, 4, 4]]
    torch.testing.assert_close(zero.grad, torch.tensor([2 * -0.5, 0.0]))
    of_first = (0 - 10) + (0 - 0.4) + (255 - 10)
    of_second = (0 - 0.4) + (1 - 0.8) + (1 - 1.2)
    torch.testing.assert_close(scale.grad, torch.tensor([of_first, of_second]))


def test_gradients_through_the_nodes():
    scale, zero = np.array([0.5, 0.25], np.float32), np.array([1, -2], np.int8)
    model = qdq_model((2, 3), scale, zero, axis=0)
    x = torch.tensor([[-300.0, 0.2, 200.0], [0.1, 32.0, 33.0]], requires_grad=True)
    as_tensor(interpreter(model).run({"x": x})["y"]).sum().backward()
    assert x.grad.tolist() == [[0, 1, 0], [1, 1, 0]]


def test_gradients_of_float8_are_straight_through():
    model = qdq_model((4,), np.array(2, np.float32), np.zeros((), ml_dtypes.float8_e4m3fn))
    x = torch.tensor([-1000.0, 0.3, 17.0, 1000.0], requires_grad=True)
    y = as_tensor(interpreter(model).run({"x": x})["y"])
    y.sum().backward()
    assert y.tolist() == [-896, 0.3125, 16, 896]
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_a_scale_for_each_block():
    scale = torch.arange(6.0).reshape(2, 3)
    spread = broadcast_scale(scale, (3, 3), axis=0, block_size=2)
    assert spread.tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert broadcast_scale(torch.ones(4), (2, 4, 3), axis=-2).shape == (4, 1)
    assert broadcast_scale(torch.ones(1), (2, 4, 3), axis=1).shape == ()


def test_dynamic_quantize_linear():
    check("DynamicQuantizeLinear", [normal(4, 5)], 3, tolerance=1e-7)
    check("DynamicQuantizeLinear", [np.abs(normal(4, 5))], 3, tolerance=1e-7)
    check("DynamicQuantizeLinear", [-np.abs(normal(4, 5))], 3, tolerance=1e-7)


def test_gradients_through_dynamic_quantization():
    """Of y = (q - z) * s they are one: the rounding is passed over and the range moves along."""
    model = helpers.parse(
        """<ir_version: 10, opset_import: ["" : 21]> g (float[2, 3] x, uint8[3, 2] w) => (y) {
            q, s, z = DynamicQuantizeLinear(x)
            p = MatMulInteger(q, w, z)
            f = Cast<to=1>(p)
            y = Mul(f, s)
        }"""
    )
    x = torch.from_numpy(normal(2, 3)).requires_grad_()
    w = torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.uint8)
    y = as_tensor(Interpreter(model).run({"x": x, "w": w})["y"])
    torch.testing.assert_close(y, x @ w.float(), rtol=0.05, atol=0.1)
    y.sum().backward()
    inside = (x > x.min()) & (x < x.max())
    torch.testing.assert_close(x.grad[inside], (w.float().sum(1) + 0 * x)[inside])


def test_qlinear_matmul():
    a = RNG.integers(0, 256, (2, 3, 8)).astype(np.uint8)
    b = RNG.integers(-128, 128, (8, 5)).astype(np.int8)
    scale, zero = np.array(0.031, np.float32), np.array(117, np.uint8)
    per_column = RNG.uniform(0.01, 0.02, 5).astype(np.float32)
    y = [np.array(0.27, np.float32), np.array(99, np.uint8)]
    check("QLinearMatMul", [a, scale, zero, b, scale, np.array(0, np.int8), *y], tolerance=0)
    check("QLinearMatMul", [a, scale, zero, b, per_column, np.zeros(5, np.int8), *y], tolerance=0)


def test_qlinear_conv():
    x = RNG.integers(0, 256, (2, 3, 6, 6)).astype(np.uint8)
    w = RNG.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    scale, zero = np.array(0.031, np.float32), np.array(117, np.uint8)
    per_filter = RNG.uniform(0.01, 0.02, 4).astype(np.float32)
    y = [np.array(0.37, np.float32), np.array(99, np.uint8)]
    b = RNG.integers(-9999, 9999, 4).astype(np.int32)
    given = {"pads": [1, 1, 0, 1], "strides": [2, 1]}
    one = [x, scale, zero, w, scale, np.array(0, np.int8), *y]
    many = [x, scale, zero, w, per_filter, np.zeros(4, np.int8), *y]
    for inputs in (one, many):
        check("QLinearConv", inputs, tolerance=0, **given)
        check("QLinearConv", [*inputs, b], tolerance=0, **given)
