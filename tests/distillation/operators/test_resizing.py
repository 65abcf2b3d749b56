import numpy as np
import pytest

from tests.distillation.operators.support import check, check_gradients

RNG = np.random.default_rng(0)
COORDINATES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
SCALES = [(1.0, 1.0, 2.0, 3.0), (1.0, 1.0, 0.5, 0.65), (1.0, 1.0, 1.7, 0.4)]


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def by_scales(x, scales, roi=None):
    return [x, roi, np.array(scales, np.float32)]


def by_sizes(x, *sizes):
    return [x, None, None, np.array(sizes, np.int64)]


@pytest.mark.parametrize("coordinates", [*COORDINATES, "tf_half_pixel_for_nn"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_nearest(coordinates, rounding):
    given = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    opset = 19 if coordinates == "half_pixel_symmetric" else 11
    for scales in SCALES:
        inputs = by_scales(normal(1, 2, 5, 7), scales, np.zeros(0, np.float32))
        check("Resize", inputs, opset=opset, tolerance=0, **given)
    check("Resize", by_sizes(normal(1, 2, 5, 7), 1, 2, 8, 3), opset=19, **given)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_linear_and_cubic(mode, coordinates):
    given = {"mode": mode, "coordinate_transformation_mode": coordinates}
    for scales in SCALES:
        check("Resize", by_scales(normal(1, 2, 5, 7), scales), opset=19, **given)
    check("Resize", by_sizes(normal(1, 2, 5, 7), 1, 2, 8, 1), opset=19, **given)


def test_linear_along_one_and_three_axes():
    check("Resize", by_scales(normal(2, 3, 5), [1, 1, 1.6]), mode="linear")
    check("Resize", by_sizes(normal(1, 2, 4, 5, 3), 1, 2, 6, 3, 5), mode="linear")


@pytest.mark.parametrize("exclude", [0, 1])
def test_cubic_coefficients(exclude):
    given = {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": exclude}
    for scales in SCALES:
        check("Resize", by_scales(normal(1, 2, 5, 7), scales), **given)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude", [0, 1])
def test_antialias(mode, exclude):
    given = {"mode": mode, "antialias": 1, "exclude_outside": exclude}
    for scales in [*SCALES, (1.0, 1.0, 0.3, 0.45)]:
        check("Resize", by_scales(normal(1, 2, 11, 9), scales), opset=18, **given)
    check("Resize", by_sizes(normal(1, 2, 11, 9), 1, 2, 4, 4), opset=19, **given)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crop_and_resize(mode):
    roi = np.array([0, 0, 0.3, -0.2, 1, 1, 0.9, 1.1], np.float32)
    given = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 7.5,
    }
    x = normal(1, 2, 6, 7)
    check("Resize", [x, roi, None, np.array([1, 2, 4, 9], np.int64)], **given)
    check("Resize", [x, roi, np.array([1, 1, 2, 0.7], np.float32)], **given)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_kept_aspect_ratios(policy):
    given = {"keep_aspect_ratio_policy": policy, "axes": [2, 3]}
    for mode in ("nearest", "linear"):
        inputs = by_sizes(normal(1, 2, 5, 7), 9, 8)
        check("Resize", inputs, opset=19, mode=mode, **given)


def test_axes():
    x = normal(1, 2, 5, 7)
    check("Resize", by_scales(x, [0.5, 2]), opset=18, axes=[3, 2], mode="linear")
    check("Resize", by_sizes(x, 3, 9), opset=18, axes=[-2, -1])


def test_integers():
    x = RNG.integers(0, 255, (1, 2, 5, 7)).astype(np.uint8)
    check("Resize", by_scales(x, SCALES[2]), tolerance=0)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_older_opsets(mode):
    for scales in SCALES:
        inputs = [normal(1, 2, 5, 7), np.array(scales, np.float32)]
        check("Resize", inputs, opset=10, mode=mode)
        if min(scales) >= 1:
            check("Upsample", inputs, opset=9, mode=mode)
            check("Upsample", inputs[:1], opset=7, mode=mode, scales=list(scales))


def test_gradients():
    x = normal(1, 2, 5, 4)
    for mode in ("nearest", "linear", "cubic"):
        check_gradients("Resize", by_scales(x, SCALES[2]), mode=mode, wrt=[0])
    check_gradients(
        "Resize", by_scales(x, SCALES[1]), opset=18, mode="linear", antialias=1, wrt=[0]
    )
