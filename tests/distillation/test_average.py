"""Moving averages of weights, beside the formula in numpy."""

import numpy as np
import pytest
import torch

from onnxcompress.distillation.average import Average
from tests.passes.support import normal


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.97, None])
def test_average_is_what_the_formula_says(decay: float | None) -> None:
    moments = normal(30, 4, seed=1)
    master = torch.from_numpy(moments[0].copy())
    average = Average([master], decay)
    wanted = moments[0].astype(np.float64)
    for step, moment in enumerate(moments[1:], start=1):
        master.copy_(torch.from_numpy(moment))
        average.add(step)
        past = min(1 if decay is None else decay, step / (step + 9))
        wanted = past * wanted + (1 - past) * moment
    np.testing.assert_allclose(average.values[0].numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_weights_come_back_after_the_average_was_shown() -> None:
    leaf = torch.ones(3, requires_grad=True)
    average = Average([leaf], 0.5)
    with torch.no_grad():
        leaf.mul_(3)
    average.add(1)
    with pytest.raises(KeyboardInterrupt), average.shown():
        assert leaf.tolist() == pytest.approx([2.8, 2.8, 2.8])  # past 1/10 of 1, and 9/10 of 3
        raise KeyboardInterrupt
    assert leaf.tolist() == [3, 3, 3]
