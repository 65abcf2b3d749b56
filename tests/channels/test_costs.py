"""What slots cost, told from the tensors that they are of alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxcompress.channels import costs
from onnxcompress.channels.costs import Costs, Measure
from onnxcompress.channels.groups import find_groups
from onnxcompress.channels.inspection import _report
from onnxcompress.ir.model import Model
from onnxcompress.runtime.context import RuntimeContext
from tests.passes.support import model_of, normal


def chain(blocks: int) -> Model:
    """Products one after the other, each of its own width."""
    widths = [4 + at % 3 for at in range(blocks + 1)]
    tensors = ["x", *(f"t{at}" for at in range(1, blocks)), "y"]
    body = "  ".join(
        f"a{at} = MatMul({tensors[at]}, w{at})  {tensors[at + 1]} = Relu(a{at})"
        for at in range(blocks)
    )
    weights = {f"w{at}": normal(widths[at], widths[at + 1], seed=at) for at in range(blocks)}
    text = f"g (float[N, {widths[0]}] x) => (float[N, {widths[-1]}] y) {{ {body} }}"
    return model_of(text, **weights)


@pytest.mark.parametrize("measure", [Measure.PARAMETERS, Measure.BYTES, Measure.MACS])
def test_what_slots_save_is_the_difference_of_the_whole(measure: Measure) -> None:
    model = chain(6)
    space = find_groups(model, RuntimeContext()).space
    counted = Costs(model, space)
    everything = np.ones(space.size, bool)
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 7, space.size):
        for _ in range(5):
            gone = rng.choice(space.size, count, replace=False)
            kept = everything.copy()
            kept[gone] = False
            wanted = counted.of(measure, everything) - counted.of(measure, kept)
            assert counted.saved(measure, gone) == wanted
            assert counted.saved(measure, np.concatenate([gone, gone])) == wanted


def test_groups_are_reported_in_time_that_grows_with_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice the nodes, twice what is counted: not four times, as for every group anew."""
    calls = 0

    def counted(real: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            nonlocal calls
            calls += 1
            return real(*arguments)

        return call

    monkeypatch.setattr(costs, "macs_of", counted(costs.macs_of))
    found = []
    for blocks in (20, 40, 80):
        model = chain(blocks)
        groups = find_groups(model, RuntimeContext())
        calls = 0
        for group in groups.groups:
            _report(group, Costs(model, groups.space))
        assert len(groups.groups) == blocks - 1
        found.append(calls)
    assert found[1] < 2.2 * found[0]
    assert found[2] < 2.2 * found[1]
