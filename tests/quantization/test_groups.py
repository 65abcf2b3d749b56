import numpy as np
import pytest

from onnxcompress.quantization.groups import Grouping, Groups
from tests.passes.support import normal

SHAPES = [
    ((12, 5, 3, 3), 0),  # Conv, Gemm with transB, tables
    ((12, 1, 3, 3), 0),  # depthwise
    ((40, 7), 1),  # MatMul
    ((6, 10, 3, 2), 1),  # ConvTranspose
    ((3, 40, 7), 2),  # a stack of matrices
    ((40,), 0),
]


@pytest.mark.parametrize("grouping", Grouping)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("block_size", [1, 4, 16, 100])
def test_dividing_and_joining_lose_nothing(
    shape: tuple[int, ...], axis: int, grouping: Grouping, block_size: int
) -> None:
    values = normal(*shape)
    groups = Groups.of(shape, axis, grouping, block_size)
    divided = groups.divide(values)
    assert divided.dtype == np.float64 and divided.shape == groups.split
    np.testing.assert_array_equal(groups.join(divided), values)
    assert np.broadcast_shapes(groups.numbers, groups.split) == groups.split
    assert np.broadcast_to(groups.held, groups.split).sum() == values.size


def test_a_channel_is_what_makes_one_output() -> None:
    shape = (4, 3, 2, 2)
    groups = Groups.of(shape, 0, Grouping.PER_CHANNEL, 1)
    assert groups.numbers == (4, 1, 1, 1)
    values = normal(*shape).astype(np.float64)
    means = groups.mean(groups.divide(values), np.True_)
    np.testing.assert_allclose(means.reshape(-1), values.mean((1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [((4, 10), 0), ((10, 4), 1), ((2, 10, 4), 2)])
def test_blocks_run_along_what_a_channel_sums_over(shape: tuple[int, ...], axis: int) -> None:
    values = normal(*shape).astype(np.float64)
    groups = Groups.of(shape, axis, Grouping.PER_BLOCK, 4)
    means = groups.mean(groups.divide(values), np.True_)
    along = np.moveaxis(values, 1 if axis == 0 else axis - 1, -1).reshape(-1, 10)
    expected = [[line[:4].mean(), line[4:8].mean(), line[8:].mean()] for line in along]
    got = np.moveaxis(means, 1, -1).reshape(-1, 3)  # [outer, 1, inner, blocks]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_mean_over_nothing_is_zero() -> None:
    groups = Groups.of((2, 3), 0, Grouping.PER_CHANNEL, 1)
    values = np.array([[1.0, 2.0, 6.0], [1.0, 1.0, 1.0]])
    means = groups.mean(values, values > 1)
    np.testing.assert_array_equal(means, np.array([[4], [0]], np.float32))
