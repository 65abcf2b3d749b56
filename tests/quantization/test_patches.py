import math

import numpy as np
import pytest

from onnxcompress.quantization.patches import Window, patches
from onnxcompress.runtime.session import Session
from tests.helpers import proto
from tests.passes.support import normal


@pytest.mark.parametrize(
    ("shape", "weight", "groups", "window"),
    [
        ((2, 3, 9, 7), (4, 3, 3, 2), 1, Window((3, 2), (2, 1), (1, 2), (1, 0), (0, 3))),
        ((2, 6, 8, 8), (6, 1, 5, 5), 6, Window((5, 5), (2, 2), (1, 1), (1, 1), (2, 2))),
        ((3, 4, 11), (6, 2, 3), 2, Window((3,), (1,), (2,), (2,), (2,))),
        ((1, 2, 4, 5), (3, 2, 2, 1), 1, Window((2, 1), (1, 1), (1, 1), (0, 0), (0, 0))),
    ],
)
def test_products_with_patches_are_the_convolution(
    shape: tuple[int, ...], weight: tuple[int, ...], groups: int, window: Window
) -> None:
    values, kernel = normal(*shape), normal(*weight, seed=1)
    dims = ", ".join("abcdefg"[: len(shape)])
    attrs = f"group = {groups}, strides = {list(window.strides)}, "
    attrs += f"dilations = {list(window.dilations)}, pads = {[*window.begins, *window.ends]}"
    message = proto(
        f"g (float[{dims}] x, float{list(weight)} w) => (float y) {{ y = Conv <{attrs}> (x, w) }}"
    )
    expected = Session(message.SerializeToString()).run({"x": values, "w": kernel})["y"]
    rows = patches(values, window, groups, 10**6).astype(np.float64)
    matrices = kernel.reshape(groups, -1, math.prod(weight[1:])).astype(np.float64)
    products = np.einsum("gpf,gof->gop", rows, matrices).reshape(weight[0], shape[0], -1)
    got = products.transpose(1, 0, 2).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_choice_of_positions_is_the_same_for_every_call() -> None:
    values = normal(2, 3, 12, 12)
    window = Window((3, 3), (1, 1), (1, 1), (0, 0), (0, 0))
    some, again = (patches(values, window, 1, 20) for _ in range(2))
    assert some.shape == (1, 40, 27)
    np.testing.assert_array_equal(some, again)
    every = {row.tobytes() for row in patches(values, window, 1, 1000)[0]}
    assert len({row.tobytes() for row in some[0]} & every) == 40
