import numpy as np
import pytest

from onnxcompress.quantization.granularity import (
    PER_TENSOR,
    PerBlock,
    PerChannel,
    reduce_max_abs,
    spread,
)

VALUES = np.random.default_rng(0).standard_normal((3, 7, 2)).astype(np.float32)


def test_one_for_all() -> None:
    assert reduce_max_abs(VALUES, PER_TENSOR) == np.abs(VALUES).max()
    assert reduce_max_abs(VALUES, PER_TENSOR).shape == ()
    assert spread(np.float32(3), VALUES.shape, PER_TENSOR) == 3


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_one_for_each_channel(axis: int) -> None:
    found = reduce_max_abs(VALUES, PerChannel(axis))
    moved = np.moveaxis(np.abs(VALUES), axis, 0)
    assert found.tolist() == [channel.max() for channel in moved]
    broad = np.broadcast_to(spread(found, VALUES.shape, PerChannel(axis)), VALUES.shape)
    assert (np.moveaxis(broad, axis, 0)[1] == found[1]).all()


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_one_for_each_block(axis: int, size: int) -> None:
    found = reduce_max_abs(VALUES, PerBlock(axis, size))
    length = VALUES.shape[axis]
    assert found.shape[axis] == -(-length // size)
    broad = spread(found, VALUES.shape, PerBlock(axis, size))
    assert broad.shape == VALUES.shape
    for index in range(length):
        begin = index // size * size
        block = np.abs(VALUES).take(range(begin, min(begin + size, length)), axis)
        np.testing.assert_array_equal(broad.take(index, axis), block.max(axis))


@pytest.mark.parametrize("granularity", [PER_TENSOR, PerChannel(0)])
def test_nothing_has_magnitude_zero(granularity: PerChannel) -> None:
    assert not reduce_max_abs(np.zeros((2, 0), np.float32), granularity).any()
