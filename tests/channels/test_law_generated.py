"""The law on generated networks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcompress.ir.from_proto import import_model

from .law import Mask, loose_slices, try_law, whole_units
from .layers import HEADS, LAYERS
from .networks import Network, networks

pytestmark = pytest.mark.slow


def _assert_holds(network: Network, *, mask: Mask = whole_units, seed: int = 0) -> None:
    model = import_model(network.proto())
    outcome = try_law(model, [network.feeds(2), network.feeds(3)], seed=seed, mask=mask)
    assert outcome.holds, (network, outcome)


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_by_itself(layer: str) -> None:
    """Between two convolutions, with all of its choices that differ much."""
    for number in range(4):
        _assert_holds(Network(((layer, number), ("activation", 3), ("conv", 1))), seed=number)


@pytest.mark.parametrize("head", range(len(HEADS)))
def test_each_head_by_itself(head: int) -> None:
    for number in range(4):
        _assert_holds(Network((("activation", 1),), head=(head, number), second_output=number == 3))


@settings(derandomize=True, max_examples=30, deadline=None, database=None)
@given(networks, st.integers(0, 9))
def test_any_network(network: Network, seed: int) -> None:
    _assert_holds(network, seed=seed)


@settings(derandomize=True, max_examples=30, deadline=None, database=None)
@given(networks, st.integers(0, 9))
def test_any_network_with_any_zeros(network: Network, seed: int) -> None:
    _assert_holds(network, mask=loose_slices, seed=seed)
