import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


CONVOLUTIONS = [
    ((1, 3, 8), (4, 3, 3), {}),
    ((2, 3, 8, 9), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 3, 8, 9), (4, 3, 3, 2), {"pads": [0, 1, 2, 0], "strides": [2, 1]}),
    ((1, 4, 9, 7), (6, 2, 3, 3), {"group": 2, "dilations": [2, 1]}),
    ((1, 4, 9, 7), (4, 1, 3, 3), {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 2, 8, 8), (4, 2, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    ((1, 2, 8, 8), (4, 2, 4, 4), {"auto_pad": "VALID", "kernel_shape": [4, 4]}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"pads": [1, 0, 1, 0, 1, 1]}),
]


@pytest.mark.parametrize(("x", "w", "attributes"), CONVOLUTIONS)
def test_conv(x, w, attributes):
    inputs = [normal(*x), normal(*w), normal(w[0])]
    check("Conv", inputs, **attributes)
    check("Conv", inputs[:2], opset=11, **attributes)


def test_gradients_of_conv():
    inputs = [normal(1, 2, 5, 4), normal(4, 1, 2, 3), normal(4)]
    check_gradients("Conv", inputs, group=2, pads=[0, 1, 1, 0], strides=[2, 1])
    check_gradients("Conv", inputs, group=2, pads=[1, 1, 1, 1], dilations=[2, 1])


TRANSPOSED = [
    ((1, 3, 5), (3, 4, 3), {}),
    ((1, 3, 4, 5), (3, 2, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    (
        (1, 3, 4, 5),
        (3, 2, 3, 3),
        {"strides": [3, 2], "pads": [1, 0, 0, 2], "output_padding": [1, 0]},
    ),
    ((1, 4, 4, 5), (4, 2, 3, 2), {"group": 2, "dilations": [2, 2], "strides": [2, 1]}),
    ((1, 3, 4, 5), (3, 2, 3, 3), {"strides": [2, 2], "output_shape": [9, 10]}),
    ((1, 3, 4, 5), (3, 2, 3, 3), {"strides": [2, 2], "output_shape": [8, 9]}),
    ((1, 3, 4, 5), (3, 2, 3, 3), {"strides": [2, 3], "output_shape": [10, 17]}),
    (
        (1, 3, 4, 5),
        (3, 2, 3, 3),
        {"strides": [2, 2], "output_shape": [8, 10], "auto_pad": "SAME_UPPER"},
    ),
    ((1, 3, 4, 5), (3, 2, 4, 3), {"strides": [3, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 3, 4, 5), (3, 2, 4, 3), {"strides": [3, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 3, 4, 5), (3, 2, 4, 3), {"strides": [3, 2], "auto_pad": "VALID"}),
    ((1, 2, 3, 3, 4), (2, 3, 2, 2, 3), {"strides": [2, 1, 2], "pads": [0, 0, 1, 1, 0, 0]}),
]


@pytest.mark.parametrize(("x", "w", "attributes"), TRANSPOSED)
def test_conv_transpose(x, w, attributes):
    inputs = [normal(*x), normal(*w), normal(w[1] * attributes.get("group", 1))]
    check("ConvTranspose", inputs, **attributes)
    check("ConvTranspose", inputs[:2], opset=11, **attributes)


def test_gradients_of_conv_transpose():
    inputs = [normal(1, 2, 3, 4), normal(2, 2, 3, 2), normal(2)]
    check_gradients("ConvTranspose", inputs, strides=[2, 2], pads=[1, 0, 0, 1])
    check_gradients("ConvTranspose", inputs, strides=[2, 1], pads=[1, 1, 1, 1])
    check_gradients("ConvTranspose", inputs, strides=[2, 2], output_shape=[9, 7])


def test_conv_integer_is_exact():
    x = RNG.integers(0, 256, (2, 3, 6, 6)).astype(np.uint8)
    w = RNG.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    u = RNG.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8)
    zero = np.array(131, np.uint8)
    check("ConvInteger", [x, u, zero, np.array(7, np.uint8)], tolerance=0, pads=[1, 0, 2, 1])
    check("ConvInteger", [x, u, zero], tolerance=0, strides=[2, 2])
    check("ConvInteger", [x, w], tolerance=0)


def test_four_spatial_axes_are_refused():
    model = node_model("Conv", inputs := [normal(1, 1, 2, 2, 2, 2), normal(1, 1, 1, 1, 1, 1)])
    with pytest.raises(UnsupportedError, match=r"node 'n' .*6 axes"):
        ours(model, inputs)


def test_col2im():
    sizes, block = np.array([5, 7]), np.array([2, 3])
    check("Col2Im", [normal(2, 18, 20), sizes, block], opset=18)
    given = {"strides": [2, 1], "pads": [1, 0, 0, 2], "dilations": [1, 2]}
    columns = normal(2, 18, 15)
    check("Col2Im", [columns, sizes, block], opset=18, **given)
    check_gradients("Col2Im", [columns, sizes, block], opset=18, **given)
    volume = [normal(1, 16, 12), np.array([3, 4, 3]), np.array([2, 2, 2])]
    check("Col2Im", volume, opset=18)
