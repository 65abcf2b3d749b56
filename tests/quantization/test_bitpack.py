import numpy as np
import pytest

from onnxcompress.quantization.bitpack import WIDTHS, CodedWeight, Codes, pack, planes, unpack
from onnxcompress.quantization.groups import Grouping, Groups


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 1001])
def test_packing_is_undone_by_unpacking(bits: int, count: int) -> None:
    codes = np.random.default_rng(count).integers(0, 1 << bits, count, dtype=np.uint8)
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8 and packed.shape == (1, -(-count // planes(bits)))
    np.testing.assert_array_equal(unpack(packed, bits, count), codes)


def test_the_first_plane_lies_in_the_lowest_bits() -> None:
    codes = np.array([1, 2, 3, 0, 2, 1, 1], np.uint8)  # planes [1 2] [3 0] [2 1] [1 -]
    assert pack(codes, 2).tolist() == [[0b01_10_11_01, 0b00_01_00_10]]


def test_bytes_are_what_is_stored() -> None:
    groups = Groups.of((3, 5), 0, Grouping.PER_CHANNEL, 1)
    scale = np.ones((3, 1), np.float32)
    book = np.array([[-1, 1]], np.float32)
    codes = Codes(np.zeros((3, 5), np.uint8), 1, book, scale)
    assert codes.nbytes == 2 + 8 + 12
    assert CodedWeight(groups, (codes, codes)).nbytes == 44


def test_each_group_reads_its_own_row_of_the_codebook() -> None:
    groups = Groups.of((2, 3), 0, Grouping.PER_CHANNEL, 1)
    book = np.array([[1, 2], [30, 40]], np.float32)
    codes = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)
    coded = CodedWeight(groups, (Codes(codes, 1, book, None),))
    assert coded.values().tolist() == [[1, 2, 1], [40, 40, 30]]
