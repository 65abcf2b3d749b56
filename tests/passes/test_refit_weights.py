from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.subjects.evaluate import top1
from benchmarks.subjects.subject import Samples
from onnxcompress.clean import remove_unused
from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import PassError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override, PassReport
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import RefitWeights
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import node, outputs

from .support import Array, model_of, normal, reasons, sqnr, stored_input

IMAGES = (normal(40, 1, 6, 6) + normal(40, 3, 6, 6, seed=8)).astype(np.float32)
ROWS = normal(200, 3)


def zeroed(model: Model, where: dict[tuple[str, int], Sequence[int]]) -> Model:
    """A copy, with some places along the first axis of stored inputs set to zero."""
    pruned = clone(model)
    edit = Editor(pruned)
    for (name, index), channels in where.items():
        values = stored_input(pruned, name, index).copy()
        values[list(channels)] = 0
        edit.set_values(node(pruned, name), index, values)
    remove_unused(pruned, edit)
    return pruned


def refit(
    pruned: Model, original: Model | None, data: Array, pass_: RefitWeights | None = None
) -> PassReport:
    """Runs the pass twice: the second run must find nothing to do."""
    dataset = dataset_of({"x": data}, Session(io.to_bytes(pruned)).inputs)
    context = RuntimeContext(dataset, unpruned_model=original)
    passes = [pass_ or RefitWeights(ridge=1e-7)]
    report = PassManager(passes).run(pruned, context)[0]
    again = PassManager(passes).run(pruned, context)[0]
    assert not again.modified, again.changes
    return report


PRODUCTS = """g (float[N, 3] x) => (float[N, 2] y) {
  [one] p = MatMul(x, w1)  [one_bias] h = Add(p, b1)
  [two] q = MatMul(h, w2)  [two_bias] y = Add(b2, q) }"""


def _products(original: bool) -> Model:
    """x -> h -> y with six h of which three say it all; two of them are pruned."""
    w1, b1 = normal(3, 6, seed=1), normal(6, seed=2)
    if not original:
        w1[:, [0, 4]], b1[[0, 4]] = 0, 0
    return model_of(PRODUCTS, w1=w1, b1=b1, w2=normal(6, 2, seed=3), b2=normal(2, seed=4))


def test_products_make_up_for_what_follows_from_the_rest() -> None:
    original, pruned = _products(True), _products(False)
    wanted = outputs(original, {"x": ROWS})["y"]
    assert sqnr(wanted, outputs(pruned, {"x": ROWS})["y"]) < 10
    report = refit(pruned, original, ROWS)
    np.testing.assert_allclose(outputs(pruned, {"x": ROWS})["y"], wanted, atol=1e-4)
    assert reasons(report) == {
        "one": "no output would come 1% nearer to the unpruned model's on samples set aside"
    }
    np.testing.assert_array_equal(
        stored_input(pruned, "one", 1), stored_input(_products(False), "one", 1)
    )
    assert "2 of 2 outputs" in next(each.detail for each in report.changes if each.node == "two")


CONVOLUTIONS = """g (float[N, 3, 6, 6] x) => (float[N, 4] y) {
  [stem] a = Conv (x, w1, b1)
  [depthwise] b = Conv <group = 8, pads = [1, 1, 1, 1]> (a, w2, b2)
  [grouped] c = Conv <group = 2, strides = [2, 2]> (b, w3)
  d = Flatten(c)  [head] y = Gemm <transB = 1> (d, w4, b4) }"""
WEIGHTS = {
    "w1": normal(8, 3, 1, 1, seed=1),
    "b1": normal(8, seed=2),
    "w2": np.broadcast_to(normal(1, 1, 3, 3, seed=3), (8, 1, 3, 3)),
    "b2": np.zeros(8, np.float32),
    "w3": normal(6, 4, 1, 1, seed=5),
    "w4": normal(4, 54, seed=7),
    "b4": normal(4, seed=8),
}


def test_convolutions_grouped_and_depthwise_and_gemm() -> None:
    original = model_of(CONVOLUTIONS, **WEIGHTS)
    channels = [3, 5]  # one of each group: what the grouped convolution reads follows from the rest
    pruned = zeroed(
        original, {(name, i): channels for name in ("stem", "depthwise") for i in (1, 2)}
    )
    wanted = outputs(original, {"x": IMAGES})["y"]
    assert sqnr(wanted, outputs(pruned, {"x": IMAGES})["y"]) < 10
    refit(pruned, original, IMAGES, RefitWeights(ridge=1e-9))
    assert sqnr(wanted, outputs(pruned, {"x": IMAGES})["y"]) > 60
    for name in ("stem", "depthwise"):
        for index in (1, 2):
            assert not stored_input(pruned, name, index)[channels].any()


def test_zeros_stay_where_they_are_and_the_rest_makes_up_for_them() -> None:
    text = "g (float[N, 3, 6, 6] x) => (float[N, 5, 4, 4] y) { [c] y = Conv(x, w, b) }"
    weight, bias = normal(5, 3, 3, 3, seed=1), normal(5, seed=2)
    mask = np.random.default_rng(0).random(weight.shape) < 0.5
    original = model_of(text, w=weight, b=bias)
    pruned = model_of(text, w=weight * mask, b=bias)
    wanted = outputs(original, {"x": IMAGES})["y"]
    before = outputs(pruned, {"x": IMAGES})["y"]
    report = refit(pruned, original, IMAGES)
    assert sqnr(wanted, outputs(pruned, {"x": IMAGES})["y"]) > sqnr(wanted, before) + 1
    np.testing.assert_array_equal(stored_input(pruned, "c", 1) != 0, mask)
    assert report.skips == ()


RESIDUAL = """g (float[N, 3] x) => (float[N, 4] y) {
  [first] a = Gemm(x, w1, b1)  r = Relu(a)
  [side] s = MatMul(r, w2)  [in] i = MatMul(r, w3)  j = Relu(i)  [out] o = MatMul(j, w4)
  [sum] y = Add(s, o) }"""


@pytest.mark.parametrize("residual", [True, False])
def test_a_sum_is_matched_by_the_last_that_writes_into_it(residual: bool) -> None:
    weights = {"w1": normal(3, 8, seed=1), "b1": normal(8, seed=2), "w2": normal(8, 4, seed=3)}
    weights |= {"w3": normal(8, 12, seed=4), "w4": normal(12, 4, seed=5)}
    original = model_of(RESIDUAL, **weights)
    side = weights["w2"].copy()
    side[:6] = 0
    pruned = model_of(RESIDUAL, **weights | {"w2": side})
    wanted = outputs(original, {"x": ROWS})
    report = refit(pruned, original, ROWS, RefitWeights(ridge=1e-6, residual=residual))
    found = sqnr(wanted["y"], outputs(pruned, {"x": ROWS})["y"])
    changed = {each.node for each in report.changes if each.op == "MatMul"}
    if residual:
        assert changed == {"side", "out"}
        assert found > 25
    else:
        assert changed == {"side"}
        assert found < 14


NORMED = """g (float[N, 3, 6, 6] x) => (float[N, 4, 6, 6] y) {
  [stem] a = Conv (x, w1, b1)  [inner] b = Conv (a, w2)
  [norm] c = BatchNormalization (b, scale, shift, mean, variance)
  r = Relu(c)  f = Mul(r, half)
  [alone] y = BatchNormalization (f, scale, shift, mean, variance) }"""


def _normed() -> Model:
    return model_of(
        NORMED,
        w1=normal(6, 3, 1, 1, seed=1),
        b1=normal(6, seed=2),
        w2=normal(4, 6, 1, 1, seed=3),
        scale=normal(4, seed=4),
        shift=normal(4, seed=5),
        mean=normal(4, seed=6),
        variance=np.square(normal(4, seed=7)) + 1,
        half=np.array(0.5, np.float32),
    )


def test_a_mean_takes_up_the_shift_of_a_convolution_without_bias() -> None:
    original = _normed()
    pruned = zeroed(original, {("stem", 1): [1, 2], ("stem", 2): [1, 2]})
    wanted = outputs(original, {"x": IMAGES})["y"]
    report = refit(pruned, original, IMAGES)
    np.testing.assert_allclose(outputs(pruned, {"x": IMAGES})["y"], wanted, atol=1e-4)
    assert reasons(report)["alone"] == "the statistics of its input are what it has stored"


@pytest.mark.parametrize("batchnorm", [True, False])
def test_statistics_move_as_those_of_the_input_did(batchnorm: bool) -> None:
    original = _normed()
    pruned = zeroed(original, {("stem", 1): [0, 1, 2, 3], ("stem", 2): [0, 1, 2, 3]})
    refit(pruned, original, IMAGES, RefitWeights(batchnorm=batchnorm))
    same = all(
        np.array_equal(stored_input(pruned, "alone", i), stored_input(original, "alone", i))
        for i in (3, 4)
    )
    assert same is not batchnorm
    if not batchnorm:
        return
    taps = [clone(model) for model in (original, pruned)]
    for tap in taps:
        tap.graph.outputs = [node(tap, "alone").inputs[0]]
    old, new = (next(iter(outputs(tap, {"x": IMAGES}).values())) for tap in taps)
    mean = stored_input(original, "alone", 3) + new.mean((0, 2, 3)) - old.mean((0, 2, 3))
    np.testing.assert_allclose(stored_input(pruned, "alone", 3), mean, rtol=1e-4)
    variance = stored_input(original, "alone", 4) * new.var((0, 2, 3)) / old.var((0, 2, 3))
    np.testing.assert_allclose(stored_input(pruned, "alone", 4), variance, rtol=1e-4)


LEFT_ALONE = """g (float[N, 3] x) => (float[N, 4] y) {
  [early] o = MatMul(x, q)  [pruned] p = MatMul(o, u)
  [shared] a = MatMul(p, s)  [again] b = MatMul(p, s)  c = Add(a, b)
  [scaled] d = Gemm <alpha = 2.0> (c, v)  [wider] e = MatMul(d, w)  [wide] f = MatMul(e, t)
  [gone] g = MatMul(f, z)  [mine] h = MatMul(g, m)
  live = Identity(v)  [computed] i = MatMul(h, live)
  [cut] j = MatMul(i, k)  [NAME] y = MatMul(j, l) }"""


def test_what_is_left_alone_is_told() -> None:
    common = {"q": normal(3, 3), "s": normal(3, 3, seed=1), "w": normal(3, 9), "t": normal(9, 3)}
    common |= {"v": normal(3, 3, seed=5), "m": normal(3, 3, seed=6)}
    weights = {"z": normal(3, 3, seed=2), "u": normal(3, 3, seed=3), "k": normal(3, 3, seed=4)}
    original = model_of(LEFT_ALONE.replace("NAME", "last"), l=normal(3, 4), **weights, **common)
    weights = {"z": 0 * weights["z"], "u": weights["u"].copy(), "k": weights["k"][:, :2]}
    weights["u"][:, 0] = 0
    pruned = model_of(LEFT_ALONE.replace("NAME", "other"), l=normal(2, 4), **weights, **common)
    pass_ = RefitWeights(overrides=(Override(None, nodes=("mine",)),), max_features=8)
    assert reasons(refit(pruned, original, ROWS, pass_)) == {
        "early": "nothing before it was pruned",
        "pruned": "no output would come 1% nearer to the unpruned model's on samples set aside",
        "shared": "'s' has other readers",
        "again": "'s' has other readers",
        "scaled": "scales its product or its bias (alpha, beta)",
        "wide": "9 features > max_features=8",
        "gone": "all of its weight is zero",
        "mine": EXCLUDED,
        "computed": "its weight is not stored",
        "cut": (
            "its output has 2 channels where the unpruned model has 3: refit before strip-pruned"
        ),
        "other": "the unpruned model has no such node",
    }


def test_without_a_model_to_compare_with_nothing_is_refitted() -> None:
    report = refit(_products(False), None, ROWS)
    told = "no unpruned model is known: run it in one recipe with what prunes"
    assert reasons(report) == {"one": told, "two": told}


def test_too_few_samples() -> None:
    report = refit(_products(False), _products(True), ROWS[:3])
    assert reasons(report)["two"] == "3 samples are too few: 5 at least"


def test_without_data_it_says_what_it_wants() -> None:
    context = RuntimeContext(unpruned_model=_products(True))
    with pytest.raises(PassError, match=r"refit-weights.*calibration data"):
        PassManager([RefitWeights()]).run(_products(False), context)


@pytest.mark.parametrize("subject", ["resnet20"], indirect=True)
def test_a_pruned_resnet_finds_back(subject: Path, tmp_path: Path) -> None:
    original = io.load(subject / "model.onnx")
    names = [each.name for each in original.graph.nodes if each.name.endswith("/conv1/Conv")]
    where: dict[tuple[str, int], Sequence[int]] = {}
    for name in names[1:]:  # the first is not within a block
        norms = np.square(stored_input(original, name, 1)).sum((1, 2, 3))
        weakest = np.argsort(norms)[: round(0.5 * len(norms))]
        where |= {(name, 1): weakest.tolist(), (name, 2): weakest.tolist()}
    pruned = zeroed(original, where)
    data = np.load(subject / "calibration.npz")["input"][:100]
    test = np.load(subject / "test.npz")
    samples = Samples(inputs={"input": test["input"][:400]}, labels=test["labels"][:400])

    def accuracy(model: Model) -> float:
        io.save(model, tmp_path / "model.onnx")
        return top1(tmp_path / "model.onnx", samples)

    before = accuracy(pruned)
    context = RuntimeContext(
        dataset_of({"input": data}, Session(subject / "model.onnx").inputs), unpruned_model=original
    )
    PassManager([RefitWeights(positions=16)]).run(pruned, context)
    assert accuracy(original) > 79
    assert before < 20
    assert accuracy(pruned) > 75
    for (name, index), channels in where.items():
        assert not stored_input(pruned, name, index)[list(channels)].any()


def test_a_map_that_is_resized_to_the_size_of_another() -> None:
    """SegFormer's head; the maps' sizes are computed as the model runs."""
    model = model_of(
        """g (float[N, 1, 6, 6] x) => (float[N, 2, h, w] y) {
          [one] a = Conv <pads = [1, 1, 1, 1]> (x, w1)  b = Relu(a)
          m = Shape(b)  mh = Slice(m, two_, four)
          [two] c = Conv <strides = [2, 2]> (b, w2)
          n = Shape(c)  nc = Slice(n, zero, two_)
          s = Concat <axis = 0> (nc, mh)
          d = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (c, , , s)
          e = Concat <axis = 1> (b, d)  [three] y = Conv(e, w3) }""",
        w1=normal(6, 1, 3, 3), w2=normal(4, 6, 2, 2, seed=1), w3=normal(2, 10, 1, 1, seed=2),
        zero=np.array([0]), two_=np.array([2]), four=np.array([4]),
    )  # fmt: skip
    pruned = zeroed(model, {("one", 1): [0, 2]})
    feeds = {"x": IMAGES[:, :1]}
    wanted, cut = (outputs(each, feeds)["y"] for each in (model, pruned))
    report = refit(pruned, model, IMAGES[:, :1])
    assert {change.node for change in report.changes} >= {"three"}
    assert sqnr(wanted, outputs(pruned, feeds)["y"]) > sqnr(wanted, cut) + 3
