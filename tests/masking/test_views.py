import numpy as np
import pytest

from onnxcompress.ir import query
from onnxcompress.masking.views import PRUNABLE_INPUTS, from_view, kernel_size, to_view
from tests.helpers import node, outputs
from tests.passes.support import Array, model_of, normal

X = normal(2, 6, 5, 5)
ROWS = normal(2, 3, 6)


@pytest.mark.parametrize(
    ("call", "shape", "view"),
    [
        ("Conv <group = 2> (x, w)", (4, 3, 3, 3), (2, 2, 27)),
        ("ConvTranspose <group = 2> (x, w)", (6, 2, 3, 3), (2, 2, 27)),
        ("MatMul(r, w)", (6, 4), (1, 4, 6)),
        ("MatMul(r, w)", (2, 6, 4), (2, 4, 6)),
        ("MatMul(r, w)", (6,), (1, 1, 6)),
        ("Gemm <transB = 1> (f, w)", (4, 18), (1, 4, 18)),
        ("Gemm(f, w)", (18, 4), (1, 4, 18)),
    ],
)
def test_a_view_multiplies_inputs_along_its_last_axis(
    call: str, shape: tuple[int, ...], view: tuple[int, ...]
) -> None:
    model = model_of(
        f"""g (float[2, 6, 5, 5] x, float[2, 3, 6] r) => (float y) {{
          f = Flatten(r)  [n] y = {call} }}""",
        w=normal(*shape),
    )
    reader = node(model, "n")
    weight = query.constant(reader, 1)
    assert weight is not None
    seen = to_view(reader, weight.values)
    assert seen.shape == view
    np.testing.assert_array_equal(from_view(reader, seen, shape), weight.values)
    # An input channel that is zero throughout leaves its features of all outputs without effect.
    kernel = kernel_size(reader, shape)
    channel = 1
    group_inputs = view[2] // kernel
    feeds = {"x": X.copy(), "r": ROWS.copy()}
    changed = seen.copy()
    changed[0, :, channel * kernel : (channel + 1) * kernel] += 1
    if reader.op in ("Conv", "ConvTranspose"):
        assert group_inputs == 3
        feeds["x"][:, channel] = 0
    elif reader.op == "Gemm":
        feeds["r"].reshape(2, -1)[:, channel] = 0
    else:
        feeds["r"][..., channel] = 0
    other = model_of(
        f"""g (float[2, 6, 5, 5] x, float[2, 3, 6] r) => (float y) {{
          f = Flatten(r)  [n] y = {call} }}""",
        w=np.ascontiguousarray(from_view(reader, changed, shape)),
    )
    before, after = outputs(model, feeds)["y"], outputs(other, feeds)["y"]
    np.testing.assert_allclose(before, after, atol=1e-5)
    feeds = {"x": X, "r": ROWS}
    assert np.abs(outputs(model, feeds)["y"] - outputs(other, feeds)["y"]).max() > 0.1


def test_an_output_of_a_view_is_an_output_of_the_node() -> None:
    text = """g (float[2, 6, 5, 5] x) => (float y) {
      [n] y = ConvTranspose <group = 2> (x, w) }"""
    weights = normal(6, 2, 3, 3)
    reader = node(model_of(text, w=weights), "n")
    seen = to_view(reader, weights).copy()
    seen[1, 0] = 0  # the first output of the second group: channel 2 of 4
    cut: Array = np.ascontiguousarray(from_view(reader, seen, weights.shape))
    found = outputs(model_of(text, w=cut), {"x": X})["y"]
    assert [bool(np.abs(found[:, channel]).max()) for channel in range(4)] == [
        True,
        True,
        False,
        True,
    ]


def test_recurrent_weights_are_seen_as_they_are() -> None:
    assert PRUNABLE_INPUTS["GRU"] == (1, 2)
    model = model_of(
        "g (float[4, 2, 3] x) => (float y) { [n] y, h = GRU <hidden_size = 5> (x, w, r) }",
        w=normal(1, 15, 3),
        r=normal(1, 15, 5),
    )
    values = normal(1, 15, 3)
    np.testing.assert_array_equal(to_view(node(model, "n"), values), values)
