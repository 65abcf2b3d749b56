import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcompress.quantization.granularity import (
    PER_TENSOR,
    Granularity,
    PerBlock,
    PerChannel,
    spread,
)
from onnxcompress.quantization.observers import Range
from onnxcompress.quantization.qparams import (
    MIN_SCALE,
    SIGNED,
    UNSIGNED,
    QParams,
    activation_qparams,
    asymmetric_qparams,
    dequantize,
    quantize,
    symmetric_qparams,
)
from tests.helpers import parse, run

DTYPES = [np.dtype(name) for name in ("uint8", "int8", "uint16", "int16")]
ends = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(ends, ends, st.sampled_from(DTYPES))
def test_zero_is_exact_and_the_range_is_covered(a: float, b: float, dtype: np.dtype) -> None:
    low, high = sorted((a, b))
    qparams = activation_qparams(Range(low, high), dtype)
    info = np.iinfo(dtype)
    assert qparams.scale >= MIN_SCALE and qparams.scale.dtype == np.float32
    assert info.min <= int(qparams.zero_point) <= info.max and qparams.zero_point.dtype == dtype
    assert dequantize(quantize(np.zeros(1, np.float32), qparams), qparams)[0] == 0
    values = np.float32([low, 0, high])
    got = dequantize(quantize(values, qparams), qparams).astype(np.float64)
    assert (np.abs(got - values) <= 1.01 * float(qparams.scale)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_against_float64(dtype: np.dtype) -> None:
    info = np.iinfo(dtype)
    qparams = activation_qparams(Range(-1.5, 4.25), dtype)
    scale = (4.25 + 1.5) / (info.max - info.min)
    assert qparams.scale == np.float32(scale)
    assert qparams.zero_point == info.min + round(1.5 / scale)


def test_ranges_on_one_side_are_widened_to_zero() -> None:
    above = activation_qparams(Range(2.0, 5.1), np.dtype(np.uint8))
    assert above.zero_point == 0 and above.scale == np.float32(5.1 / 255)
    below = activation_qparams(Range(-5.1, -2.0), np.dtype(np.uint8))
    assert below.zero_point == 255 and below.scale == np.float32(5.1 / 255)


def test_all_zeros_get_scale_one() -> None:
    assert activation_qparams(Range(0.0, 0.0), np.dtype(np.uint8)).scale == 1
    assert activation_qparams(Range(0.0, 1e-44), np.dtype(np.uint8)).scale == MIN_SCALE


def test_rounding_is_half_to_even_and_saturates() -> None:
    qparams = QParams(np.float32(1), np.uint8(10))
    values = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 244.5, 245.5, 1e9, -1e9, 3e38, -3e38])
    expected = [10, 12, 12, 10, 8, 254, 255, 255, 0, 255, 0]
    assert quantize(values, qparams).tolist() == expected
    tiny = QParams(np.asarray(MIN_SCALE), np.int8(0))
    assert quantize(np.float32([1e9, -1e9]), tiny).tolist() == [127, -128]  # overflows on the way


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_integers_are_those_of_onnxruntime(kind: str) -> None:
    values = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    values[:6] = [0.5, 1.5, -2.5, 100, -100, 0]
    qparams = activation_qparams(Range(-2.0, 3.0), np.dtype(kind))
    model = parse(f"""g (float[N] x, float s, {kind} z) => ({kind}[N] q, float[N] y) {{
      q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }}""")
    got = run(model, x=values, s=qparams.scale, z=qparams.zero_point)
    integers = quantize(values, qparams)
    np.testing.assert_array_equal(integers, got["q"])
    np.testing.assert_array_equal(dequantize(integers, qparams), got["y"])


@pytest.mark.parametrize(("bits", "limit"), [(16, 32767), (8, 127), (4, 7), (2, 1)])
@pytest.mark.parametrize(
    ("granularity", "shape"),
    [(PER_TENSOR, ()), (PerChannel(0), (5,)), (PerChannel(-1), (10,)), (PerBlock(1, 4), (5, 3))],
)
def test_weights(bits: int, limit: int, granularity: Granularity, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal((5, 10)).astype(np.float32)
    values[2] = 0
    qparams = symmetric_qparams(values, granularity, bits)
    integers = quantize(values, qparams)
    assert integers.dtype == SIGNED[bits] and np.abs(integers.astype(int)).max() == limit
    assert not qparams.zero_point.astype(int).any()
    assert qparams.scale.shape == qparams.zero_point.shape == shape
    widest = np.abs(values).max() / limit
    assert np.abs(dequantize(integers, qparams) - values).max() <= widest / 2 * 1.0001
    assert not dequantize(integers, qparams)[2].any()


@pytest.mark.parametrize("bits", [16, 8, 4, 2])
@pytest.mark.parametrize(
    ("granularity", "shape"),
    [(PER_TENSOR, ()), (PerChannel(0), (5,)), (PerChannel(-1), (10,)), (PerBlock(1, 4), (5, 3))],
)
def test_asymmetric_weights(bits: int, granularity: Granularity, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal((5, 10)).astype(np.float32) + np.float32(0.5)
    values[2] = 0
    qparams = asymmetric_qparams(values, granularity, bits)
    integers = quantize(values, qparams)
    assert integers.dtype == qparams.zero_point.dtype == UNSIGNED[bits]
    assert qparams.scale.shape == qparams.zero_point.shape == shape
    scale = spread(qparams.scale, values.shape, granularity).astype(np.float64)
    gap = np.abs(dequantize(integers, qparams).astype(np.float64) - values)
    assert (gap <= scale * 1.0001).all()  # the ends move by the zero point's rounding
    assert not dequantize(integers, qparams)[2].any()
    if granularity == PER_TENSOR:
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        assert qparams.scale == np.float32((high - low) / (2**bits - 1))
        assert int(qparams.zero_point) == round(-low / ((high - low) / (2**bits - 1)))


def test_asymmetric_by_hand() -> None:
    values = np.float32([[0, 3, 6, 45], [-15, 0, -30, -45]])
    qparams = asymmetric_qparams(values, PerChannel(0), 4)
    assert qparams.scale.tolist() == [3, 3]
    assert qparams.zero_point.astype(int).tolist() == [0, 15]
    assert quantize(values, qparams).astype(int).tolist() == [[0, 1, 2, 15], [10, 15, 5, 0]]


def test_a_word_shorter_than_its_type_saturates_at_its_own_limits() -> None:
    qparams = QParams(np.float32(0.5), np.int8(0), word_length=5)
    assert qparams.limits == (-16, 15)
    assert quantize(np.float32([100, -100, 7.6, 1.25]), qparams).tolist() == [15, -16, 15, 2]


def test_a_channel_of_zeros_gets_scale_one() -> None:
    qparams = symmetric_qparams(np.float32([[0, 0], [1e-45, 0], [2, -4]]), PerChannel(0))
    assert qparams.scale.tolist() == [1, MIN_SCALE, np.float32(4 / 127)]


def test_blocks_by_hand() -> None:
    values = np.float32([[1, -2, 3, 127], [4, 5, -254, 0]])
    qparams = symmetric_qparams(values, PerBlock(1, 3))
    np.testing.assert_array_equal(qparams.scale, np.float32([[3 / 127, 1], [2, 1]]))
    assert quantize(values, qparams)[:, 2:].tolist() == [[127, 127], [-127, 0]]


def test_the_block_is_that_of_onnx() -> None:
    values = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    qparams = symmetric_qparams(values, PerBlock(0, 3))
    model = parse("""g (int8[6, 4] q, float[2, 4] s) => (float[6, 4] y) {
      y = DequantizeLinear <axis = 0, block_size = 3> (q, s) }""")
    integers = quantize(values, qparams)
    np.testing.assert_array_equal(
        dequantize(integers, qparams), run(model, q=integers, s=qparams.scale)
    )
