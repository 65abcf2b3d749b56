import numpy as np

from onnxcompress.quantization.equalization import Link, Weights, equalizing_scales
from tests.passes.support import normal


def _magnitude(outputs: int, inputs: int, seed: int) -> np.ndarray:
    magnitude: np.ndarray = np.exp(2 * normal(outputs, inputs, seed=seed, dtype=np.float64))
    return magnitude


def test_one_tensor_is_equalized_in_closed_form() -> None:
    first, second = Weights(_magnitude(4, 3, 0), 1), Weights(_magnitude(5, 4, 1), 1)
    (scale,) = equalizing_scales([first, second], [Link(0, 1, 4)], rounds=1, tolerance=0)
    before, after = first.magnitude.max(1), second.magnitude.max(0)
    np.testing.assert_allclose(scale, np.sqrt(before * after) / after, rtol=1e-12)
    np.testing.assert_allclose(before / scale, after * scale, rtol=1e-12)


def test_a_chain_through_a_depthwise_node_converges() -> None:
    weights = [
        Weights(_magnitude(6, 3, 0), 1),
        Weights(_magnitude(6, 1, 1), 6),
        Weights(_magnitude(2, 6, 2), 1),
    ]
    links = [Link(0, 1, 6), Link(1, 2, 6)]
    s, t = equalizing_scales(weights, links, rounds=1000, tolerance=1e-12)
    one = weights[0].magnitude.max(1) / s
    two = weights[1].magnitude[:, 0] * s / t
    three = weights[2].magnitude.max(0) * t
    np.testing.assert_allclose(one, two, rtol=1e-9)
    np.testing.assert_allclose(two, three, rtol=1e-9)


def test_channels_of_a_grouped_node_and_features_of_a_flattened_one() -> None:
    grouped = Weights(_magnitude(6, 2, 0), 2)
    first, last = Weights(_magnitude(4, 3, 1), 1), Weights(_magnitude(5, 18, 2), 1)
    s, t = equalizing_scales(
        [first, grouped, last], [Link(0, 1, 4), Link(1, 2, 6)], rounds=2000, tolerance=1e-13
    )
    wide = np.zeros((6, 4))
    wide[:3, :2], wide[3:, 2:] = grouped.magnitude[:3], grouped.magnitude[3:]
    middle = wide * s / t[:, None]
    np.testing.assert_allclose(first.magnitude.max(1) / s, middle.max(0), rtol=1e-8)
    features = (last.magnitude * np.repeat(t, 3)).max(0).reshape(6, 3).max(1)
    np.testing.assert_allclose(middle.max(1), features, rtol=1e-8)


def test_a_channel_without_range_stays() -> None:
    first, second = Weights(np.array([[0.0], [4.0]]), 1), Weights(np.array([[1.0, 1.0]]), 1)
    (scale,) = equalizing_scales([first, second], [Link(0, 1, 2)], rounds=10, tolerance=0)
    np.testing.assert_allclose(scale, [1, 2])
