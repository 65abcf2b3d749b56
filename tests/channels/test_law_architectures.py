"""The law on small exports of many architectures, by both of torch's exporters."""

import pytest

from onnxcompress.ir import io
from tests.architectures.export import Exports
from tests.architectures.specification import Architecture, Exporter
from tests.architectures.table import EXPORTS

from .law import loose_slices, try_law

USUAL = (Exporter.TRACED, Exporter.DYNAMO)
"""What most people export with; the others leave weights to be computed as the model runs."""

SEEDS = {
    Exporter.TRACED: (0, 1),
    Exporter.TRACED_UNFOLDED: (2,),
    Exporter.DYNAMO: (1, 2),
    Exporter.DYNAMO_UNOPTIMIZED: (0,),
}

LEAST_GROUPS = {
    "bert": (5, 5),
    "bidirectional-lstm": (3, 3),
    "convnext": (2, 2),
    "denoiser": (6, 6),
    "densenet": (8, 8),
    "gated-conv": (1, 1),
    "gpt": (4, 4),
    "gru": (2, 2),
    "inception": (13, 13),
    "mobilenet-v2": (6, 6),
    "mobilenet-v3": (10, 10),
    "other-norms": (3, 3),
    "prelu": (4, 4),
    "resnet-basic": (5, 5),
    "resnet-bottleneck": (9, 9),
    "resnet-option-a": (5, 5),
    "resnext": (7, 7),
    "sdpa-encoder": (1, 1),
    "shared-tensors": (2, 2),
    "shufflenet-v2": (8, 8),
    "super-resolution": (3, 3),
    "swin": (6, 6),
    "tracked-instance-norm": (0, 2),
    "unet": (12, 12),
    "vgg": (4, 4),
    "vit": (4, 4),
    "vit-torch-attention": (4, 4),
}
"""Dependency groups that must be found, in the order of `USUAL`: the law holds of none at all."""


def _name(value: Architecture | Exporter) -> str:
    return value.value if isinstance(value, Exporter) else value.name


@pytest.mark.parametrize(("architecture", "exporter"), EXPORTS, ids=_name)
def test_stripping_changes_no_output(
    architecture: Architecture, exporter: Exporter, exports: Exports
) -> None:
    model = io.load(exports.path(architecture, exporter))
    feeds = [architecture.feeds(2), architecture.feeds(5, sequence=12)]
    for seed in SEEDS[exporter]:
        outcome = try_law(model, feeds, seed=seed)
        assert outcome.holds, outcome
        assert outcome.groups == 0 or outcome.effect > 1e-3, outcome
        assert outcome.groups == 0 or outcome.after < 0.99 * outcome.before, outcome
        if exporter in USUAL:
            least = LEAST_GROUPS[architecture.name][USUAL.index(exporter)]
            assert outcome.groups >= least, outcome


@pytest.mark.parametrize(
    ("architecture", "exporter"),
    [each for each in EXPORTS if each[1] is Exporter.DYNAMO],
    ids=_name,
)
def test_only_what_is_silent_is_cut(
    architecture: Architecture, exporter: Exporter, exports: Exports
) -> None:
    model = io.load(exports.path(architecture, exporter))
    outcome = try_law(model, [architecture.feeds(3)], seed=0, mask=loose_slices)
    assert outcome.holds, outcome
