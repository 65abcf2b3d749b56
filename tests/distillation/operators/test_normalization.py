import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape):
    return RNG.uniform(0.5, 2.0, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 2, 3)])
def test_batch_normalization(shape):
    inputs = [normal(*shape), normal(3), normal(3), normal(3), positive(3)]
    for opset in (7, 9, 14, 15):
        check("BatchNormalization", inputs, opset=opset, epsilon=1e-3)
    check_gradients("BatchNormalization", inputs)


def test_batch_normalization_in_training():
    inputs = [normal(4, 3, 2, 5), normal(3), normal(3), normal(3), positive(3)]
    check("BatchNormalization", inputs, 3, opset=15, training_mode=1, momentum=0.7)
    check_gradients("BatchNormalization", inputs, 3, opset=15, training_mode=1)


def test_statistics_for_each_position_are_refused():
    inputs = [normal(2, 3), *(positive(3) for _ in range(4))]
    model = node_model("BatchNormalization", inputs, opset=7, spatial=0)
    with pytest.raises(UnsupportedError, match="spatial=0"):
        ours(model, inputs)


def test_instance_normalization():
    for shape in ((2, 3, 4), (2, 3, 4, 5), (1, 3, 1)):
        check("InstanceNormalization", [normal(*shape), normal(3), normal(3)], epsilon=1e-3)
    check_gradients("InstanceNormalization", [normal(2, 3, 4), normal(3), normal(3)])


@pytest.mark.parametrize("axis", [-1, 1, 2, 0])
@pytest.mark.parametrize("biased", [True, False])
def test_layer_normalization(axis, biased):
    x = normal(2, 3, 5)
    shape = x.shape[axis:]
    inputs = [x, normal(*shape), *([normal(*shape)] if biased else [])]
    check("LayerNormalization", inputs, opset=17, axis=axis)
    check("LayerNormalization", inputs, 3, opset=17, axis=axis, epsilon=1e-2)
    check_gradients("LayerNormalization", inputs, 3, opset=17, axis=axis)


def test_layer_normalization_spreads_its_scale():
    inputs = [normal(2, 3, 5), normal(5), normal(3, 1)]
    x = inputs[0].astype(np.float64)
    centered = x - x.mean((1, 2), keepdims=True)
    unit = centered / np.sqrt((centered**2).mean((1, 2), keepdims=True) + 1e-5)
    expected = (unit * inputs[1] + inputs[2]).astype(np.float32)
    check("LayerNormalization", inputs, expected=[expected], axis=1)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(opset):
    count = 2 if opset == 18 else 6
    inputs = [normal(2, 6, 3, 4), normal(count), normal(count)]
    check("GroupNormalization", inputs, opset=opset, num_groups=2, epsilon=1e-3)
    check_gradients("GroupNormalization", inputs, opset=opset, num_groups=2)


def test_rms_normalization():
    inputs = [normal(2, 3, 8), normal(8)]
    check("RMSNormalization", inputs, opset=23)
    check("RMSNormalization", [inputs[0], normal(3, 8)], opset=23, axis=1, epsilon=1e-2)
    check("SimplifiedLayerNormalization", inputs, opset=21, epsilon=1e-2)
    check("SimplifiedLayerNormalization", inputs, 2, opset=21)
    check_gradients("RMSNormalization", inputs, opset=23)
    check_gradients("SimplifiedLayerNormalization", inputs, 2)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, -1])
def test_lp_normalization(p, axis):
    x = normal(3, 4, 5)
    check("LpNormalization", [x], axis=axis, p=p)
    check_gradients("LpNormalization", [x], axis=axis, p=p)
    x[:, 1] = 0
    x[0] = 0
    check("LpNormalization", [x], axis=axis, p=p)


def test_mean_variance_normalization():
    x = normal(2, 3, 4, 5)
    check("MeanVarianceNormalization", [x])
    check("MeanVarianceNormalization", [x], axes=[1, 2])
    check_gradients("MeanVarianceNormalization", [x], axes=[0, 3])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn(size):
    x = normal(2, 6, 3, 4)
    check("LRN", [x], size=size, alpha=0.3, beta=0.6, bias=1.5)
    check_gradients("LRN", [x], size=size, alpha=0.3, bias=2.0)
