"""Every export computes what its torch module does, on sizes it was not exported with."""

import numpy as np
import pytest
import torch

from onnxcompress.runtime.session import Session

from .export import OUTPUT, Exports
from .specification import Architecture, Exporter
from .table import ARCHITECTURES, REFUSALS


def _name(value: Architecture | Exporter) -> str:
    return value.value if isinstance(value, Exporter) else value.name


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=_name)
def test_onnxruntime_agrees_with_torch(architecture: Architecture, exports: Exports) -> None:
    module = architecture.module()
    for batch, sequence in ((1, 11), (4, 16)):
        feeds = architecture.feeds(batch, sequence=sequence, seed=1)
        with torch.inference_mode():
            expected = module(*map(torch.from_numpy, feeds.values())).numpy()
        scale = float(np.abs(expected).max())
        assert batch == 1 or np.ptp(expected, axis=0).max() > 0.05 * scale  # the input matters
        for exporter in Exporter:
            if exporter not in architecture.refused:
                actual = Session(exports.path(architecture, exporter)).run(feeds)[OUTPUT]
                error = np.abs(actual - expected).max()
                assert error <= 1e-5 * scale, exporter


@pytest.mark.parametrize(("architecture", "exporter"), REFUSALS, ids=_name)
def test_an_exporter_still_refuses(
    architecture: Architecture, exporter: Exporter, exports: Exports, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(Exception, match=architecture.refused[exporter]):
        exports.path(architecture, exporter)
    capfd.readouterr()  # torch prints the whole graph
