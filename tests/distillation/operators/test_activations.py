import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(2)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32) * 2

ELEMENTWISE = [
    ("Celu", {}),
    ("Celu", {"alpha": 0.7}),
    ("Elu", {}),
    ("Elu", {"alpha": 1.7}),
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
    ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.4}),
    ("HardSwish", {}),
    ("LeakyRelu", {}),
    ("LeakyRelu", {"alpha": 0.3}),
    ("Mish", {}),
    ("Relu", {}),
    ("Selu", {}),
    ("Selu", {"alpha": 1.2, "gamma": 0.8}),
    ("Shrink", {}),
    ("Shrink", {"bias": 0.3, "lambd": 1.1}),
    ("Sigmoid", {}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("Tanh", {}),
    ("ThresholdedRelu", {}),
    ("ThresholdedRelu", {"alpha": 0.4}),
]


@pytest.mark.parametrize(("op", "attributes"), ELEMENTWISE)
def test_elementwise(op, attributes):
    check(op, [X], **attributes)
    check_gradients(op, [X], **attributes)


def test_softplus_of_large_numbers():
    check("Softplus", [np.array([-100, -20, 15, 30, 45, 100], np.float32)], tolerance=1e-6)


def test_swish():
    expected = X / (1 + np.exp(-0.8 * X.astype(np.float64)))
    check("Swish", [X], opset=24, alpha=0.8, expected=[expected.astype(np.float32)])
    expected = X / (1 + np.exp(-X.astype(np.float64)))
    check("Swish", [X], opset=24, expected=[expected.astype(np.float32)])
    check_gradients("Swish", [X], opset=24, alpha=0.8)


@pytest.mark.parametrize("opset", [7, 9, 16])
def test_prelu(opset):
    slope = RNG.normal(size=(4, 1)).astype(np.float32)
    check("PRelu", [X, slope], opset=opset)
    check_gradients("PRelu", [X, slope], opset=opset)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [7, 11, 12, 13, 21])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_over_an_axis(op, opset, axis):
    if axis == -1 and opset < 11:
        axis = 2
    attributes = {} if axis is None else {"axis": axis}
    check(op, [X], opset=opset, **attributes)
    if op != "Hardmax":
        check_gradients(op, [X], opset=opset, **attributes)


def test_hardmax_takes_the_first_of_equals():
    check("Hardmax", [np.array([[1, 3, 3, 2], [0, 0, 0, 0]], np.float32)], tolerance=0)


@pytest.mark.parametrize("opset", [7, 10, 12, 21])
def test_dropout_drops_nothing(opset):
    check("Dropout", [X], opset=opset, tolerance=0)
    check("Dropout", [X], 2, opset=opset, tolerance=0)
    check_gradients("Dropout", [X], opset=opset)


def test_dropout_that_draws_numbers_is_refused():
    inputs = [X, np.array(0.5, np.float32), np.array(True)]
    with pytest.raises(UnsupportedError, match=r"'n' \(Dropout\): training_mode draws"):
        ours(node_model("Dropout", inputs), inputs)
    inputs[1] = np.array(0, np.float32)
    np.testing.assert_array_equal(ours(node_model("Dropout", inputs), inputs)["o0"], X)
