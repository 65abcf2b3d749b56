import math
from fractions import Fraction

import numpy as np
import pytest

from onnxcompress.quantization.fixed_point import (
    FixedPoint,
    convolution,
    format_for,
    next_power_of_two,
    product,
    rescale,
    to_integers,
    to_real,
)
from onnxcompress.quantization.observers import Range
from tests.helpers import parse, run

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("word", "low", "high", "fraction"),
    [
        (8, -1.0, 0.99, 7),  # -128 / 128 fits
        (8, 0.0, 1.0, 6),  # 128 / 128 does not
        (8, 0.0, 127 / 128, 7),
        (8, 0.0, 127.4 / 128, 7),  # rounds to 127
        (8, 0.0, 127.6 / 128, 6),
        (8, -128.5 / 128, 0.0, 7),  # a tie, to the even -128
        (4, -0.3, 0.2, 4),
        (16, -3.0, 100.0, 8),
        (8, 0.0, 1000.0, -3),
        (8, 0.0, 0.001, 16),
        (8, 0.0, 0.0, 7),
        (8, 0.0, 1e-30, 60),
    ],
)
def test_auto_is_the_finest_format_that_does_not_saturate(
    word: int, low: float, high: float, fraction: int
) -> None:
    found = format_for(Range(low, high), word)
    assert found == FixedPoint(word, fraction)


def test_auto_on_random_ranges() -> None:
    for _ in range(300):
        word = int(RNG.integers(4, 17))
        low, high = sorted(RNG.standard_normal(2) * 10.0 ** RNG.integers(-6, 7))
        found = format_for(Range(low, high), word)
        least, most = found.limits
        ends = [round(Fraction(end) * Fraction(2) ** found.fraction_bits) for end in (low, high)]
        assert ends[0] >= least and ends[1] <= most
        step = Fraction(2) ** (found.fraction_bits + 1)
        finer = [round(Fraction(end) * step) for end in (low, high)]
        assert finer[0] < least or finer[1] > most


@pytest.mark.parametrize("shift", [-3, 0, 1, 5])
def test_rescale_is_exact_rounding_half_to_even(shift: int) -> None:
    sums = np.arange(-6000, 6000)
    got = rescale(sums, 6 + shift, FixedPoint(8, 6))
    exact = [min(max(round(Fraction(int(s)) / Fraction(2) ** shift), -128), 127) for s in sums]
    assert got.tolist() == exact
    assert got.min() == -128 and got.max() == 127


def test_integers_and_reals() -> None:
    fixed = FixedPoint(6, 3)
    values = np.float32([0.0625, 0.1875, -0.0625, 3.9, 100, -100, 0.3125])
    assert to_integers(values, fixed).tolist() == [0, 2, 0, 31, 31, -32, 2]
    np.testing.assert_array_equal(to_real(np.array([31, -32]), 3), [3.875, -4.0])
    assert fixed.qparams.limits == (-32, 31) and fixed.qparams.scale == 0.125
    assert fixed.qparams.zero_point.dtype == np.int8
    assert FixedPoint(12, 3).qparams.zero_point.dtype == np.int16
    assert FixedPoint(16, 3).qparams.word_length is None


def test_next_power_of_two() -> None:
    scales = np.float32([1, 0.25, 0.26, 3, 4, 1e-30])
    got = next_power_of_two(scales)
    expected = [2.0 ** math.ceil(math.log2(float(s))) for s in scales]
    assert got.dtype == np.float32
    assert got.tolist() == expected
    assert next_power_of_two(np.asarray(np.float32(0.3))).shape == ()


@pytest.mark.parametrize("groups", [1, 2])
def test_the_convolution_is_that_of_onnx(groups: int) -> None:
    x = RNG.integers(-128, 128, (2, 4, 7, 6))
    w = RNG.integers(-128, 128, (6, 4 // groups, 3, 2))
    b = RNG.integers(-1000, 1000, 6)
    model = parse(f"""g (float[2, 4, 7, 6] x, float[6, {4 // groups}, 3, 2] w, float[6] b)
      => (float y) {{
      y = Conv <strides = [2, 1], pads = [1, 0, 2, 1], group = {groups}> (x, w, b) }}""")
    feeds = {"x": x.astype(np.float32), "w": w.astype(np.float32), "b": b.astype(np.float32)}
    got = convolution(x, w, b, strides=(2, 1), pads=(1, 0, 2, 1), groups=groups)
    np.testing.assert_array_equal(got, run(model, **feeds))  # all sums are exact in float32


def test_products() -> None:
    x, w, b = RNG.integers(-(2**15), 2**15, (3, 500)), RNG.integers(-(2**15), 2**15, (500, 4)), 7
    exact = [[sum(int(a) * int(c) for a, c in zip(r, k, strict=True)) for k in w.T] for r in x]
    assert product(x, w).tolist() == exact
    assert product(x, w, np.full(4, b)).tolist() == [[s + b for s in row] for row in exact]
