"""How much of real exports can go: what is not followed is left alone, and that shows here."""

from typing import Final

import numpy as np
import pytest

from onnxcompress.channels.costs import Costs, Measure
from onnxcompress.channels.groups import find_groups
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneChannels, StripPruned
from onnxcompress.runtime.context import RuntimeContext
from tests.architectures.export import Exports
from tests.architectures.specification import Architecture, Exporter
from tests.architectures.table import EXPORTS

LEAST: Final = 0.24
"""Share of the multiply-accumulates that goes where 0.3 was asked for."""

USUAL = (Exporter.TRACED, Exporter.DYNAMO)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "exporter"),
    [each for each in EXPORTS if each[1] in USUAL],
    ids=lambda value: value.value if isinstance(value, Exporter) else value.name,
)
def test_a_quarter_of_the_products_can_go(
    architecture: Architecture, exporter: Exporter, exports: Exports
) -> None:
    model = io.load(exports.path(architecture, exporter))
    before = _macs(model)
    PassManager([PruneChannels(target=Measure.MACS, amount=0.3), StripPruned()]).run(model)
    assert 1 - _macs(model) / before >= LEAST


def _macs(model: Model) -> int:
    space = find_groups(model, RuntimeContext()).space
    return Costs(model, space).of(Measure.MACS, np.ones(space.size, bool))
