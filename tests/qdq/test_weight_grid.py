import numpy as np
import pytest

from onnxcompress.ir.model import Node
from onnxcompress.qdq.weight_grid import (
    grid_bounds,
    in_kernel_order,
    multiplies_in_pairs,
    weight_grid,
)
from onnxcompress.quantization.granularity import PER_TENSOR, PerChannel
from onnxcompress.quantization.qparams import quantize, symmetric_qparams
from onnxcompress.quantization.saturation import PAIR_LIMIT, pair_sums
from onnxcompress.target import INT8_TRAITS, Target
from tests.helpers import node, parse

NODES = parse(
    """g (float[1, 8, 9, 9] x, float w) => (float[1, 4] g) {
      [dense] a = Conv(x, w)  [grouped] b = Conv <group = 2> (x, w)
      [depthwise] c = Conv <group = 8> (x, w)
      [gemm] d = Gemm(x, w)  [transposed] e = Gemm <transB = 1> (x, w)
      [product] g = MatMul(x, w) }"""
)
SHAPES = {
    "dense": ((6, 3, 3, 5), 0),
    "grouped": ((6, 4, 3, 3), 0),
    "depthwise": ((8, 1, 3, 3), 0),
    "gemm": ((20, 6), 1),
    "transposed": ((6, 20), 0),
    "product": ((20, 6), 1),
}
RNG = np.random.default_rng(5)
PAIRS, NO_PAIRS = INT8_TRAITS[Target.X86_AVX2], INT8_TRAITS[Target.X86_VNNI]


def _weight(name: str) -> tuple[Node, np.ndarray, int]:
    shape, axis = SHAPES[name]
    return node(NODES, name), RNG.standard_normal(shape).astype(np.float32), axis


def test_a_convolution_reads_the_input_channels_of_a_position_side_by_side() -> None:
    weight = np.arange(2 * 3 * 1 * 2).reshape(2, 3, 1, 2)
    rows = in_kernel_order(node(NODES, "dense"), weight)
    np.testing.assert_array_equal(rows, [[0, 2, 4, 1, 3, 5], [6, 8, 10, 7, 9, 11]])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_no_pair_of_products_saturates_where_it_could(name: str, per_channel: bool) -> None:
    each, weight, axis = _weight(name)
    granularity = PerChannel(axis) if per_channel else PER_TENSOR
    plain = symmetric_qparams(weight, granularity)
    np.testing.assert_array_equal(
        weight_grid(each, weight, granularity, NO_PAIRS).scale, plain.scale
    )
    safe = weight_grid(each, weight, granularity, PAIRS)
    sums = pair_sums(in_kernel_order(each, quantize(weight, safe)))
    if name == "depthwise":
        assert not multiplies_in_pairs(each, weight.shape)
        np.testing.assert_array_equal(safe.scale, plain.scale)
        assert sums.max() > PAIR_LIMIT
    else:
        assert PAIR_LIMIT - 2 <= sums.max() <= PAIR_LIMIT
        assert pair_sums(in_kernel_order(each, quantize(weight, plain))).max() > PAIR_LIMIT


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("target", [Target.X86_AVX2, Target.X86_VNNI])
def test_within_its_bounds_a_moved_weight_keeps_its_grid(name: str, target: Target) -> None:
    each, weight, axis = _weight(name)
    traits, granularity = INT8_TRAITS[target], PerChannel(axis)
    qparams = weight_grid(each, weight, granularity, traits)
    scale = qparams.scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    bounds = grid_bounds(each, weight / scale, traits)
    assert bounds.free.mean() > 0.4
    between = np.rint(bounds.low + RNG.random(weight.shape) * (bounds.high - bounds.low))
    for levels in (bounds.low, bounds.high, between):
        moved = np.where(bounds.free, (levels * scale).astype(np.float32), weight)
        assert (moved != weight).mean() > 0.4
        np.testing.assert_array_equal(
            weight_grid(each, moved, granularity, traits).scale, qparams.scale
        )
