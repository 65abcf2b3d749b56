import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def grid(*shape):
    return RNG.uniform(-1.3, 1.3, shape).astype(np.float32)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode, corners, padding):
    inputs = [normal(2, 3, 5, 6), grid(2, 4, 3, 2)]
    given = {"padding_mode": padding, "align_corners": corners}
    older = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    check("GridSample", inputs, opset=20, tolerance=1e-4, mode=mode, **given)
    check("GridSample", inputs, opset=16, tolerance=1e-4, mode=older, **given)
    check_gradients("GridSample", inputs, opset=20, mode=mode, wrt=[0], **given)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_grid_sample_of_volumes(mode):
    inputs = [normal(1, 2, 4, 3, 5), grid(1, 2, 3, 2, 3)]
    check("GridSample", inputs, opset=20, tolerance=1e-4, mode=mode)


def test_gradients_of_positions():
    check_gradients("GridSample", [normal(1, 2, 4, 5), grid(1, 3, 2, 2)], opset=20, mode="linear")


def test_cubic_volumes_are_refused():
    inputs = [normal(1, 1, 2, 2, 2), grid(1, 1, 1, 1, 3)]
    with pytest.raises(UnsupportedError, match="cubic"):
        ours(node_model("GridSample", inputs, opset=20, mode="cubic"), inputs)


@pytest.mark.parametrize("corners", [0, 1])
def test_affine_grid(corners):
    flat = [normal(2, 2, 3), np.array([2, 3, 4, 5])]
    deep = [normal(1, 3, 4), np.array([1, 2, 3, 4, 5])]
    for inputs in (flat, deep):
        check("AffineGrid", inputs, opset=20, align_corners=corners)
        check_gradients("AffineGrid", inputs, opset=20, align_corners=corners)


ROIS = np.array([[1, 1, 6, 5], [0, 2, 3.5, 7.5], [-2, -1, 9, 12], [4, 4, 4.2, 4.3]], np.float32)


@pytest.mark.parametrize("transform", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align(ratio, mode, transform):
    inputs = [normal(2, 3, 9, 8), ROIS, np.array([0, 1, 1, 0])]
    given = {
        "output_height": 3,
        "output_width": 2,
        "sampling_ratio": ratio,
        "mode": mode,
        "spatial_scale": 0.9,
    }
    check("RoiAlign", inputs, opset=16, coordinate_transformation_mode=transform, **given)
    check_gradients("RoiAlign", inputs, opset=16, wrt=[0], **given)
    if transform == "output_half_pixel":
        check("RoiAlign", inputs, opset=10, **given)


@pytest.mark.parametrize("masked", [True, False])
def test_deform_conv(masked):
    given = {"group": 2, "offset_group": 2, "pads": [1, 0, 1, 1], "strides": [2, 1]}
    high, wide = 3, 4
    offset = normal(2, 2 * 2 * 3 * 2, high, wide)
    mask = RNG.uniform(0, 1, (2, 2 * 3 * 2, high, wide)).astype(np.float32) if masked else None
    inputs = [normal(2, 4, 5, 4), normal(6, 2, 3, 2), offset, normal(6), mask]
    check("DeformConv", inputs, opset=19, tolerance=1e-4, **given)
    check_gradients("DeformConv", inputs, opset=19, **given)


def test_deform_conv_without_offsets_is_a_conv():
    inputs = [normal(1, 2, 6, 7), normal(3, 2, 3, 3)]
    given = {"dilations": [2, 1], "pads": [1, 1, 1, 1]}
    expected = ours(node_model("Conv", inputs, **given), inputs)["o0"]
    offset = np.zeros((1, 18, *expected.shape[2:]), np.float32)
    check("DeformConv", [*inputs, offset], opset=19, expected=[expected], **given)
