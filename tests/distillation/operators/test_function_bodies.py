import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.operators import OPERATORS
from onnxcompress.distillation.values import as_tensor
from onnxcompress.ir.from_proto import import_model
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(9)
X = RNG.normal(size=(4, 5, 3)).astype(np.float32)


def test_these_have_no_function():
    assert OPERATORS.keys().isdisjoint({"CenterCropPad", "HannWindow", "LinearAttention", "SwiGLU"})


@pytest.mark.parametrize("size", [(6, 3), (2, 8)])
def test_center_crop_pad(size):
    check("CenterCropPad", [X, np.array(size)], opset=18, axes=[0, 1])
    check_gradients("CenterCropPad", [X, np.array(size)], opset=18, axes=[0, 1])


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows(op, periodic):
    check(op, [np.array(10)], periodic=periodic)


def test_a_definition_holds_for_other_sizes():
    model = node_model("CenterCropPad", [X, np.array([6, 3])], opset=18, axes=[0, 1])
    interpreter = Interpreter(import_model(model))
    for size in ([6, 3], [2, 8], [4, 5]):
        for x in (X, X[:2, :, :1]):
            found = as_tensor(interpreter.run({"i0": x, "i1": np.array(size)})["o0"])
            assert found.shape == (*size, x.shape[2])


def test_an_operator_set_without_it():
    size = [np.array(10)]
    with pytest.raises(UnsupportedError, match=r"\(HannWindow\): opset 16 has no such operator"):
        ours(node_model("HannWindow", size, opset=16), size)
