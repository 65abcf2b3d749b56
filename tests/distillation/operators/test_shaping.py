import numpy as np
import pytest

from onnxcompress.errors import ModelError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(4)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32)


def numbers(*values):
    return np.array(values, np.int64)


def test_identity_shape_and_size():
    check("Identity", [X], tolerance=0)
    check("Size", [X], tolerance=0)
    for rest in ({}, {"start": 1}, {"end": -1}, {"start": -2, "end": 7}):
        check("Shape", [X], tolerance=0, opset=15, **rest)
    check("Shape", [np.array(1, np.float32)], tolerance=0)


@pytest.mark.parametrize("shape", [(12, 5), (-1, 5), (0, 0, -1), (2, -1, 3), (0, 20)])
def test_reshape(shape):
    check("Reshape", [X, numbers(*shape)], tolerance=0)
    check("Reshape", [X, numbers(*shape)], tolerance=0, opset=7)
    check_gradients("Reshape", [X, numbers(*shape)])


def test_reshape_may_take_zero_as_zero():
    empty = np.zeros((0, 4), np.float32)
    check("Reshape", [empty, numbers(3, 0)], tolerance=0, allowzero=1)
    check("Reshape", [empty, numbers(0, 2, 2)], tolerance=0)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten(axis):
    check("Flatten", [X], tolerance=0, axis=axis, opset=11)
    check_gradients("Flatten", [X], axis=axis)


def test_squeeze():
    x = X.reshape(3, 1, 4, 1, 5)
    check("Squeeze", [x], tolerance=0, opset=11)
    check("Squeeze", [x], tolerance=0)
    check("Squeeze", [x], tolerance=0, opset=11, axes=[1, -2])
    check("Squeeze", [x, numbers(-2)], tolerance=0)
    check_gradients("Squeeze", [x, numbers(3)])


def test_unsqueeze():
    check("Unsqueeze", [X], tolerance=0, opset=7, axes=[0, 4])
    check("Unsqueeze", [X], tolerance=0, opset=11, axes=[-1, 1])
    check("Unsqueeze", [X, numbers(4, 0, -3)], tolerance=0)
    check("Unsqueeze", [np.array(2, np.float32), numbers(0)], tolerance=0)
    check_gradients("Unsqueeze", [X, numbers(1)])


def test_transpose():
    check("Transpose", [X], tolerance=0)
    check("Transpose", [X], tolerance=0, perm=[1, 2, 0])
    check_gradients("Transpose", [X], perm=[2, 0, 1])


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 1, 5), (4, 1), (1,), (0, 3, 4, 5)])
def test_expand(shape):
    check("Expand", [X[:, :1], numbers(*shape)], tolerance=0)
    check_gradients("Expand", [X[:, :1], numbers(2, 1, 4, 1)])


def test_tile():
    check("Tile", [X, numbers(2, 1, 3)], tolerance=0)
    check("Tile", [X, numbers(2, 0, 3)], tolerance=0, opset=7)
    check_gradients("Tile", [X, numbers(2, 1, 3)])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(axis):
    check("Concat", [X, X[:3], -X], tolerance=0, axis=axis, opset=11)
    check("Concat", [X], tolerance=0, axis=axis)
    check_gradients("Concat", [X, 2 * X], axis=axis)


def test_split():
    x = np.concatenate([X, -X], 1)
    check("Split", [x], 2, tolerance=0, opset=11, axis=1)
    check("Split", [x], 2, tolerance=0, opset=7, axis=1, split=[3, 5])
    check("Split", [x, numbers(1, 0, 7)], 3, tolerance=0, opset=13, axis=-2)
    check("Split", [x], 4, tolerance=0, opset=13, axis=1)
    check("Split", [x], 3, tolerance=0, opset=18, axis=1, num_outputs=3)
    check(
        "Split",
        [x],
        5,
        tolerance=0,
        opset=18,
        axis=1,
        num_outputs=5,
        expected=(
            x[:, :2],
            x[:, 2:4],
            x[:, 4:6],
            x[:, 6:],
            x[:, :0],
        ),
    )
    check_gradients("Split", [x, numbers(3, 5)], 2, axis=1)


SLICES = [
    ([1], [3], [0], [1]),
    ([0, 1], [2, 2**31 - 1], [0, 2], [1, 2]),
    ([-3, -1], [-1, -5], [1, 2], [1, -1]),
    ([4], [-(2**63)], [2], [-2]),
    ([100], [-100], [-1], [-1]),
    ([-100], [100], [1], [3]),
    ([2], [1], [0], [1]),
    ([1], [2], [0], [-1]),
    ([0], [-100], [2], [-1]),
    ([-100], [-100], [2], [-1]),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES)
def test_slice(starts, ends, axes, steps):
    given = [numbers(*each) for each in (starts, ends, axes, steps)]
    check("Slice", [X, *given], tolerance=0)
    check("Slice", [X, *given], tolerance=0, opset=10)
    check("Slice", [X, *(each.clip(-1000, 1000).astype(np.int32) for each in given)], tolerance=0)
    check_gradients("Slice", [X, *given])
    if steps == [1] * len(steps):
        rest = {"starts": starts, "ends": ends, "axes": axes}
        check("Slice", [X], tolerance=0, opset=9, **rest)


def test_slice_without_axes():
    check("Slice", [X, numbers(1, 2), numbers(3, 4)], tolerance=0)
    check("Slice", [X], tolerance=0, opset=7, starts=[1, 2], ends=[3, -1])
    empty = np.zeros((0, 3), np.float32)
    check("Slice", [empty, numbers(0), numbers(5), numbers(0)], tolerance=0)
    check("Slice", [empty, numbers(-1), numbers(-9), numbers(0), numbers(-1)], tolerance=0)


PADS = [(0, 0, 0, 0, 0, 0), (1, 0, 2, 0, 3, 1), (2, 1, 0, 1, 2, 3), (0, 2, 0, 0, 0, 0)]


@pytest.mark.parametrize("pads", PADS)
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad(mode, pads):
    check("Pad", [X, numbers(*pads)], tolerance=0, opset=19, mode=mode)
    if mode != "wrap":
        check("Pad", [X], tolerance=0, opset=7, mode=mode, pads=pads)
        check("Pad", [X, numbers(*pads)], tolerance=0, opset=11, mode=mode)
    check_gradients("Pad", [X, numbers(*pads)], mode=mode)


def test_pad_with_a_value():
    value = np.array(2.5, np.float32)
    check("Pad", [X], tolerance=0, opset=7, pads=[0, 1, 2, 0, 0, 1], value=2.5)
    check("Pad", [X, numbers(0, 1, 2, 0, 0, 1), value], tolerance=0, opset=13)
    check("Pad", [X, numbers(1, 2, 0, 3), value, numbers(2, 0)], tolerance=0, opset=18)
    check("Pad", [X, numbers(1, 2), value, numbers(-2)], tolerance=0, opset=18)
    whole = RNG.integers(0, 9, (2, 3))
    check("Pad", [whole, numbers(1, 0, 0, 1), np.array(7)], tolerance=0)
    check("Pad", [whole > 4, numbers(1, 0, 0, 1), np.array(True)], tolerance=0)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("pads", [(0, -1, 0, 0, 0, -2), (-1, 0, 0, 0, -2, 0), (0, -1, 2, 0, 2, -1)])
def test_negative_pads_crop(mode, pads):
    check("Pad", [X, numbers(*pads)], tolerance=0, mode=mode)
    check_gradients("Pad", [X, numbers(*pads)], mode=mode)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(mode):
    x = RNG.normal(size=(2, 12, 3, 4)).astype(np.float32)
    check("DepthToSpace", [x], tolerance=0, blocksize=2, mode=mode)
    check_gradients("DepthToSpace", [x], blocksize=2, mode=mode)


def test_space_to_depth():
    x = RNG.normal(size=(2, 3, 4, 6)).astype(np.float32)
    check("SpaceToDepth", [x], tolerance=0, blocksize=2)
    check_gradients("SpaceToDepth", [x], blocksize=2)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, 0, 2, -1])
def test_trilu(upper, k):
    inputs = [X] if k is None else [X, np.array(k)]
    check("Trilu", inputs, tolerance=0, upper=upper)
    check_gradients("Trilu", inputs, upper=upper)


def test_reverse_sequence():
    x = RNG.normal(size=(4, 3, 2)).astype(np.float32)
    check("ReverseSequence", [x, numbers(4, 1, 2)], tolerance=0)
    rest = {"batch_axis": 0, "time_axis": 1}
    check("ReverseSequence", [x, numbers(3, 2, 1, 3)], tolerance=0, **rest)
    check_gradients("ReverseSequence", [x, numbers(4, 1, 2)])


def test_a_fault_names_the_node():
    with pytest.raises(ModelError, match=r"node 'n' \(Reshape\) failed in PyTorch: .*invalid"):
        ours(node_model("Reshape", [X, numbers(7)]), [X, numbers(7)])
