import numpy as np
import pytest

from tests.distillation.operators.support import check, check_gradients

RNG = np.random.default_rng(0)
CLASSES = 5


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def classes(*shape):
    return RNG.integers(0, CLASSES, shape)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("places", [(), (3,), (3, 2)])
def test_losses(places, weighted, reduction):
    weights = [RNG.uniform(0.5, 2, CLASSES).astype(np.float32)] if weighted else []
    inputs = [normal(4, CLASSES, *places), classes(4, *places), *weights]
    for given in ({}, {"ignore_index": 2}):
        check("NegativeLogLikelihoodLoss", inputs, opset=13, reduction=reduction, **given)
        check("SoftmaxCrossEntropyLoss", inputs, 2, opset=13, reduction=reduction, **given)
        check("SoftmaxCrossEntropyLoss", inputs, opset=12, reduction=reduction, **given)
    check_gradients("NegativeLogLikelihoodLoss", inputs, reduction=reduction)
    check_gradients("SoftmaxCrossEntropyLoss", inputs, 2, reduction=reduction)


def test_what_is_ignored_may_lie_outside():
    inputs = [normal(4, CLASSES), np.array([0, -1, 4, -1], np.int32)]
    check("SoftmaxCrossEntropyLoss", inputs, 2, opset=13, ignore_index=-1)
