from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import FactorizeWeights
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import ops, run

from .support import Array, apply, model_of, normal, reasons, stored_input

ROWS = {"x": normal(40, 12, seed=9)}


def of_rank(rank: int, *shape: int, seed: int = 0) -> Array:
    """A matrix of that rank."""
    outer = normal(shape[0], rank, seed=seed) @ normal(rank, shape[1], seed=seed + 1)
    return outer.astype(np.float32)


def matmul(weight: Array, tail: str = "[add] y = Add(h, b)") -> Model:
    return model_of(
        f"g (float[N, 12] x) => (float[N, 10] y) {{ [node] h = MatMul(x, w)  {tail} }}",
        w=weight,
        b=normal(10, seed=3),
    )


@pytest.mark.parametrize("data", [None, ROWS], ids=["by weight", "by data"])
def test_a_weight_of_low_rank_is_found_exactly(data: dict[str, Array] | None) -> None:
    model = matmul(of_rank(3, 12, 10))
    before = run(model, **ROWS)
    report = apply(FactorizeWeights(rank=3), model, data=data)
    assert ops(model) == ["MatMul", "MatMul", "Add"]
    assert stored_input(model, "node", 1).shape == (3, 10)
    np.testing.assert_allclose(run(model, **ROWS), before, atol=2e-5)
    source = "the weight alone" if data is None else "calibration data"
    assert any(
        change.detail == f"rank 3 of 10: 55% of the parameters, 0.00% of the outputs' variance "
        f"lost, by {source}"
        for change in report.changes
    )


@pytest.mark.parametrize("turned", [0, 1])
def test_gemm_keeps_its_bias_and_its_factors(turned: int) -> None:
    weight = of_rank(2, 12, 10)
    model = model_of(
        "g (float[N, 12] x) => (float[N, 10] y) "
        f"{{ [node] y = Gemm <transB = {turned}, alpha = 0.5, beta = 2.0> (x, w, b) }}",
        w=np.ascontiguousarray(weight.T) if turned else weight,
        b=normal(10, seed=3),
    )
    before = run(model, **ROWS)
    apply(FactorizeWeights(rank=2), model)
    assert ops(model) == ["MatMul", "Gemm"]
    np.testing.assert_allclose(run(model, **ROWS), before, atol=2e-5)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(
    "placement",
    [
        "strides = [2, 1], pads = [1, 0, 2, 1], dilations = [1, 2]",
        'auto_pad = "SAME_UPPER", strides = [2, 2]',
        "kernel_shape = [3, 3]",
    ],
)
def test_a_kernel_stays_with_the_first_convolution(group: int, placement: str) -> None:
    parts = [of_rank(2, 6, 8 // group * 9, seed=10 * number) for number in range(group)]
    model = model_of(
        "g (float[N, 8, 9, 11] x) => (float[N, c, h, w] y) "
        f"{{ [node] y = Conv <group = {group}, {placement}> (x, w, b) }}",
        w=np.concatenate(parts).reshape(6 * group, 8 // group, 3, 3),
        b=normal(6 * group, seed=3),
    )
    image = normal(2, 8, 9, 11, seed=4)
    before = run(model, x=image)
    apply(FactorizeWeights(rank=2), model, data={"x": image})
    assert ops(model) == ["Conv", "Conv"]
    assert stored_input(model, "node", 1).shape == (6 * group, 2, 1, 1)
    np.testing.assert_allclose(run(model, x=image), before, atol=1e-4)


def test_outputs_on_the_data_change_as_little_as_any_rank_lets_them() -> None:
    rng = np.random.default_rng(5)
    mixing = rng.standard_normal((12, 12)) * np.geomspace(3, 0.05, 12)
    rows = (rng.standard_normal((400, 12)) @ mixing + 2).astype(np.float32)
    weight = normal(12, 10)
    before = run(matmul(weight), x=rows).astype(np.float64)

    errors = {}
    for by_data in (True, False):
        model = matmul(weight)
        apply(FactorizeWeights(rank=4, by_data=by_data), model, data={"x": rows})
        errors[by_data] = np.square(run(model, x=rows) - before).sum()
    centred = before - before.mean(axis=0)
    least = np.square(np.linalg.svd(centred, compute_uv=False)[4:]).sum()
    assert errors[True] == pytest.approx(least, rel=1e-3)
    assert errors[False] > 3 * least


def test_energy_finds_the_rank() -> None:
    weight = np.zeros((12, 10), np.float32)
    weight[range(10), range(10)] = [10, 8, 1, 1, 1, 1, 1, 1, 1, 1]
    model = matmul(weight)
    apply(FactorizeWeights(energy=0.9, multiple=1), model)
    assert stored_input(model, "node", 1).shape == (2, 10)


def test_a_ratio_of_parameters_and_multiples_are_kept() -> None:
    model = model_of(
        "g (float[N, 96] x) => (float[N, 64] y) { [node] y = MatMul(x, w) }", w=normal(96, 64)
    )
    apply(FactorizeWeights(ratio=0.5), model)
    assert stored_input(model, "node", 1).shape == (16, 64)  # 19.2, to the nearest multiple of 8


def test_what_is_left_alone_has_a_reason() -> None:
    model = model_of(
        "g (float[N, 12] x, float[12, 12] z) => (float[N, 12] y) {"
        " [shared] a = MatMul(x, w)  [again] b = MatMul(a, w)  [computed] c = MatMul(b, z)"
        " [small] d = MatMul(c, v)  [turned] e = Gemm <transA = 1> (d, u)  y = MatMul(x, e) }",
        w=normal(12, 12),
        v=normal(12, 12),
        u=normal(12, 12),
    )
    report = PassManager([FactorizeWeights(rank=6)]).run(model)[0]
    found = reasons(report)
    assert found["shared"] == found["again"] == "'w' has other readers"
    assert found["computed"] == "its weight is not stored"
    assert found["small"] == "rank 6 saves nothing: factors of 144 numbers for a matrix of 12 x 12"
    assert found["turned"] == "transposes its input (transA)"
    assert not report.modified


def test_most_lost_and_overrides_leave_nodes_alone() -> None:
    model = matmul(normal(12, 10))
    report = apply(FactorizeWeights(rank=2, most_lost=0.01), model)
    assert reasons(report)["node"].startswith("would lose 44.7% of its outputs")
    report = apply(FactorizeWeights(overrides=(Override(None, nodes=("no*",)),)), model)
    assert reasons(report)["node"] == EXCLUDED


def test_a_depthwise_convolution_has_nothing_to_give() -> None:
    model = model_of(
        "g (float[N, 8, 9, 9] x) => (float[N, c, h, w] y) { [node] y = Conv <group = 8> (x, w) }",
        w=normal(8, 1, 3, 3),
    )
    report = apply(FactorizeWeights(), model)
    assert reasons(report)["node"].startswith("rank 1 saves nothing")


def test_factors_are_not_factored_again() -> None:
    model = matmul(of_rank(3, 12, 10))
    PassManager([FactorizeWeights(rank=3)]).run(model)
    report = PassManager([FactorizeWeights(rank=1)]).run(model)[0]
    assert not report.modified
    assert reasons(report)["node"].startswith("is a product of low rank together with")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be at least 1"),
        ({"energy": 1.5}, "energy must be above 0"),
        ({"ratio": 1.0}, "ratio must be between 0 and 1"),
        ({"rank": 3, "energy": 0.5}, "give one of them"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        FactorizeWeights(**options)  # type: ignore[arg-type]


PARTS = {"minilm": "*layer.0/*", "efficientnet-lite0": "/_blocks.1[2-4]/*", "resnet20": "*"}
"""Nodes of each subject, few enough for a quick test."""


def test_a_real_model_loses_less_by_data_than_by_its_weights(subject: Path) -> None:
    path = subject / "model.onnx"
    data = load_dataset(str(subject / "calibration.npz"), Session(path).inputs).take(range(8))
    context = RuntimeContext(data)
    feeds = next(data.batches(8)).feeds
    (before,) = Session(path).run(feeds).values()
    errors = {}
    for by_data in (True, False):
        model = io.load(path)
        size = model.weight_bytes
        some = FactorizeWeights(ratio=0.7, by_data=by_data)
        others = Override(None, op_types=("Conv", "Gemm", "MatMul"))
        one = replace(some, overrides=(Override(some, nodes=(PARTS[subject.name],)), others))
        (report,) = PassManager([one]).run(model, context)
        assert report.modified
        assert model.weight_bytes < size
        (after,) = Session(io.to_bytes(model)).run(feeds).values()
        errors[by_data] = float(np.square(after - before).mean() / before.var())
        again = PassManager([one]).run(model, context)[0]
        assert not again.modified
        assert any("is a product of low rank" in each.reason for each in again.skips)
    assert errors[True] < 0.8 * errors[False]
