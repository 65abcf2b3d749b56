import numpy as np
import pytest

from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import FoldPad
from tests.helpers import node, ops

from .support import Array, apply_exact, model_of, normal, opset, reasons

X = {"x": normal(2, 3, 5, 6)}
W = normal(4, 3, 3, 3, seed=1)


def _pads(*amounts: int) -> Array:
    return np.array(amounts, np.int64)


def _conv(call: str, attributes: str = "") -> str:
    return f"""g (float[N, 3, H, K] x) => (float[N, 4, a, b] y)
      <float zero = {{0}}, float five = {{5}}> {{
      [pad] t = {call}  [conv] y = Conv {attributes} (t, w) }}"""


@pytest.mark.parametrize("call", ["Pad(x, p)", "Pad(x, p, zero)", 'Pad <mode = "constant"> (x, p)'])
@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "<pads = [1, 0, 0, 2]>",
        "<strides = [2, 2], pads = [1, 1, 1, 1]>",
        "<dilations = [2, 1]>",
        '<auto_pad = "VALID">',
        '<auto_pad = "NOTSET">',
    ],
)
def test_asymmetric_padding_becomes_the_convolutions(call: str, attributes: str) -> None:
    model = model_of(_conv(call, attributes), w=W, p=_pads(0, 0, 1, 0, 0, 0, 2, 1))
    apply_exact(FoldPad(), model, X)
    assert ops(model) == ["Conv"]


def test_the_amounts_add_up() -> None:
    text = _conv("Pad(x, p)", "<pads = [1, 0, 0, 2]>")
    model = model_of(text, w=W, p=_pads(0, 0, 1, 2, 0, 0, 3, 4))
    apply_exact(FoldPad(), model, X)
    assert node(model, "conv").ints_attr("pads") == (2, 2, 3, 6)


def test_the_attribute_form_before_opset_11() -> None:
    text = "g (float[N, 3, H, K] x) => (float[N, 4, a, b] y) {"
    text += "t = Pad <pads = [0, 0, 1, 0, 0, 0, 2, 1]> (x)  y = Conv(t, w) }"
    model = model_of(opset(9) + text, w=W)
    apply_exact(FoldPad(), model, X)
    assert ops(model) == ["Conv"]


@pytest.mark.parametrize(
    ("call", "amounts", "reason"),
    [
        ("Pad(x, p, five)", (0, 0, 1, 1, 0, 0, 1, 1), "pads with 5, convolutions pad with 0"),
        (
            'Pad <mode = "reflect"> (x, p)',
            (0, 0, 1, 1, 0, 0, 1, 1),
            "pads with other values than a constant",
        ),
        (
            'Pad <mode = "edge"> (x, p)',
            (0, 0, 1, 1, 0, 0, 1, 1),
            "pads with other values than a constant",
        ),
        ("Pad(x, p)", (0, 0, -1, 1, 0, 0, 1, 1), "negative padding crops"),
        ("Pad(x, p)", (1, 0, 1, 1, 0, 0, 1, 1), "pads the batch or channel axis"),
    ],
)
def test_other_padding_stays(call: str, amounts: tuple[int, ...], reason: str) -> None:
    model = model_of(_conv(call), w=W, p=_pads(*amounts))
    report = apply_exact(FoldPad(), model, X)
    assert ops(model) == ["Pad", "Conv"]
    assert reasons(report) == {"pad": reason}


def test_channel_padding_stays() -> None:
    model = model_of(_conv("Pad(x, p)"), w=normal(4, 5, 3, 3), p=_pads(0, 1, 1, 1, 0, 1, 1, 1))
    report = apply_exact(FoldPad(), model, X)
    assert reasons(report) == {"pad": "pads the batch or channel axis"}


@pytest.mark.parametrize(
    ("call", "feeds", "reason"),
    [
        ("Pad(x, q)", {"q": _pads(0, 0, 1, 1, 0, 0, 1, 1)}, "the amount of padding is"),
        ("Pad(x, p, v)", {"v": np.array(2, np.float32)}, "the padding value is"),
    ],
)
def test_padding_computed_at_run_time_stays(
    call: str, feeds: dict[str, Array], reason: str
) -> None:
    text = _conv(call).replace("K] x)", "K] x, int64[8] q, float v)")
    model = model_of(text, w=W, p=_pads(0, 0, 1, 1, 0, 0, 1, 1))
    every = {"q": _pads(0, 0, 0, 0, 0, 0, 0, 0), "v": np.array(0, np.float32), **feeds}
    report = apply_exact(FoldPad(), model, {**X, **every})
    assert reasons(report) == {"pad": f"{reason} computed at run time"}


def test_named_axes_stay() -> None:
    model = model_of(_conv("Pad(x, p, , axes)"), w=W, p=_pads(1, 1), axes=_pads(2))
    report = apply_exact(FoldPad(), model, X)
    assert reasons(report) == {"pad": "names the axes it pads"}


def test_several_readers_that_all_pad() -> None:
    model = model_of(
        """g (float[N, 3, H, K] x) => (float[N, 4, a, b] y, float[N, 4, c, d] z) {
          t = Pad(x, p)  y = Conv(t, w)  z = Conv <strides = [2, 1]> (t, w) }""",
        w=W,
        p=_pads(0, 0, 1, 1, 0, 0, 0, 1),
    )
    apply_exact(FoldPad(), model, X)
    assert ops(model) == ["Conv", "Conv"]


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        ("z = Neg(t)", "read by Neg, which does not pad with zeros"),
        ("z = MaxPool <kernel_shape = [2, 2]> (t)", "read by MaxPool, which does not pad"),
        ('z = Conv <auto_pad = "SAME_UPPER"> (t, w)', "Conv chooses its own padding (auto_pad)"),
    ],
)
def test_one_reader_that_cannot_pad_keeps_it(reader: str, reason: str) -> None:
    model = model_of(
        f"""g (float[2, 3, 5, 6] x) => (float[N, 4, a, b] y, float[N, e, c, d] z) {{
          [pad] t = Pad(x, p)  y = Conv(t, w)  {reader} }}""",
        w=W,
        p=_pads(0, 0, 0, 0, 0, 0, 0, 1),
    )
    report = apply_exact(FoldPad(), model, X)
    assert "Pad" in ops(model)
    assert reasons(report)["pad"].startswith(reason)


def test_a_returned_tensor_stays_padded() -> None:
    model = model_of(
        """g (float[N, 3, H, K] x) => (float[N, 4, a, b] y, float[N, 3, c, d] t) {
          [pad] t = Pad(x, p)  y = Conv(t, w) }""",
        w=W,
        p=_pads(0, 0, 1, 1, 0, 0, 1, 1),
    )
    report = apply_exact(FoldPad(), model, X)
    assert reasons(report) == {"pad": "a graph returns the padded tensor"}


POOL = """g (float[N, 3, H, K] x) => (float[N, 3, a, b] y) {
  [pad] t = Pad(x, p)  [pool] y = AveragePool <kernel_shape = [3, 2]%s> (t) }"""


@pytest.mark.parametrize("extra", ["", ", strides = [2, 1]"])
def test_average_pool_that_counts_its_padding(extra: str) -> None:
    model = model_of(POOL % f", count_include_pad = 1{extra}", p=_pads(0, 0, 2, 0, 0, 0, 1, 1))
    apply_exact(FoldPad(), model, X, tolerance=1e-6)
    assert ops(model) == ["AveragePool"]


@pytest.mark.parametrize(
    ("extra", "amounts", "reason"),
    [
        ("", (1, 1, 1, 1), "AveragePool does not count padding as values"),
        (
            ", count_include_pad = 1, pads = [1, 0, 0, 0]",
            (1, 1, 1, 1),
            "AveragePool does not count padding as values",
        ),
        (
            ", count_include_pad = 1, ceil_mode = 1, strides = [2, 2]",
            (1, 1, 1, 1),
            "AveragePool rounds its size up",
        ),
        (
            ", count_include_pad = 1",
            (1, 2, 1, 1),
            "AveragePool takes no padding as wide as its window",
        ),
    ],
)
def test_average_pool_that_does_not(extra: str, amounts: tuple[int, ...], reason: str) -> None:
    model = model_of(POOL % extra, p=_pads(0, 0, *amounts[:2], 0, 0, *amounts[2:]))
    report = apply_exact(FoldPad(), model, X)
    assert reasons(report) == {"pad": reason}


def test_a_padded_weight_stays() -> None:
    model = model_of(
        """g (float[N, 3, H, K] x, float[4, 3, 2, 2] w) => (float[N, 4, a, b] y) {
          [pad] t = Pad(w, p)  [conv] y = Conv(x, t) }""",
        p=_pads(0, 0, 1, 1, 0, 0, 0, 0),
    )
    report = apply_exact(FoldPad(), model, {**X, "w": normal(4, 3, 2, 2)})
    assert reasons(report) == {"pad": "pads the weight of 'conv'"}


def test_two_pads_in_a_row_in_one_go() -> None:
    model = model_of(
        """g (float[N, 3, H, K] x) => (float[N, 4, a, b] y) {
          s = Pad(x, p)  t = Pad(s, p)  [conv] y = Conv(t, w) }""",
        w=W,
        p=_pads(0, 0, 1, 0, 0, 0, 0, 2),
    )
    apply_exact(FoldPad(), model, X)
    assert node(model, "conv").ints_attr("pads") == (2, 0, 0, 4)


def test_one_and_three_dimensions() -> None:
    line = model_of(
        "g (float[N, 3, H] x) => (float[N, 4, a] y) { t = Pad(x, p)  y = Conv(t, w) }",
        w=normal(4, 3, 3),
        p=_pads(0, 0, 2, 0, 0, 1),
    )
    apply_exact(FoldPad(), line, {"x": normal(2, 3, 7)})
    assert ops(line) == ["Conv"]
    cube = model_of(
        "g (float[N, 3, H, K, D] x) => (float[N, 4, a, b, c] y) { t = Pad(x, p)  y = Conv(t, w) }",
        w=normal(4, 3, 2, 2, 2),
        p=_pads(0, 0, 2, 0, 1, 0, 0, 1, 0, 0),
    )
    apply_exact(FoldPad(), cube, {"x": normal(1, 3, 3, 3, 3)}, tolerance=1e-5)
    assert ops(cube) == ["Conv"]


@pytest.mark.parametrize("choice", [True, False])
def test_in_a_branch(choice: bool) -> None:
    model = model_of(
        """g (float[2, 3, 5, 6] x, bool c) => (float[N, 4, a, b] y) {
          t = Pad(x, p)
          y = If (c) <
            then_branch = d () => (float[N, 4, a, b] r) { u = Pad(t, p)  r = Conv(u, w) },
            else_branch = e () => (float[N, 4, a, b] s) { s = Conv(t, w) }> }""",
        w=W,
        p=_pads(0, 0, 1, 1, 0, 0, 1, 1),
    )
    apply_exact(FoldPad(), model, {**X, "c": np.array(choice)})
    assert ops(model) == ["If", "Conv", "Conv"]


def test_excluded() -> None:
    model = model_of(_conv("Pad(x, p)"), w=W, p=_pads(0, 0, 1, 1, 0, 0, 1, 1))
    pass_ = FoldPad(overrides=(Override(None, op_types=("Pad",)),))
    assert reasons(apply_exact(pass_, model, X)) == {"pad": EXCLUDED}
