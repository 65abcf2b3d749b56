from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of, load_dataset
from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import DropBlock, RefitWeights, SwapSubgraph
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.conftest import SUBJECTS
from tests.helpers import ops, reload, run

from .support import Array, apply, model_of, normal, opset, reasons, stored

pytestmark = pytest.mark.slow

ROWS = {"x": normal(200, 6, seed=9)}
W = normal(6, 32) / 6
V = normal(32, 6, seed=1)


def network(**weights: Array) -> Model:
    """A head that must not change, around a network between `a` and `b`."""
    given = {"first": normal(6, 6, seed=3), "v": W, "w": V, "last": normal(6, 4, seed=4), **weights}
    return model_of(
        f"{opset(20)} g (float[N, 6] x) => (float[N, 4] y) {{"
        " [head] a = MatMul(x, first)  [up] h = MatMul(a, v)  [act] g = Gelu(h)"
        " [down] b = MatMul(g, w)  [tail] y = MatMul(b, last) }",
        **given,
    )


def change(model: Model, one: SwapSubgraph, data: dict[str, Array] | None = None) -> str:
    """What the report says of the swap."""
    report = apply(one, model, data=data or ROWS)
    (detail,) = [each.detail for each in report.changes if each.op == "subgraph"]
    return detail


def loss_of(told: str) -> tuple[float, float]:
    """The error after and before training."""
    words = told.replace(")", "").replace(",", "").split()
    return float(words[words.index("error") + 1]), float(words[words.index("training") + 1])


def test_training_brings_the_student_near_and_leaves_the_rest() -> None:
    model = network()
    before = run(model, **ROWS)
    told = change(model, SwapSubgraph(inputs="a", outputs="b", student="relu", epochs=30))
    after, start = loss_of(told)
    assert after < 0.5 * start
    assert told.startswith("relu, error 0.0")
    assert told.endswith("parameters 384 -> 384")
    assert ops(model) == ["MatMul", "MatMul", "Relu", "MatMul", "MatMul"]
    np.testing.assert_array_equal(stored(model)["first"], normal(6, 6, seed=3))
    np.testing.assert_array_equal(stored(model)["last"], normal(6, 4, seed=4))
    error = np.square(run(model, **ROWS) - before).mean() / before.var()
    assert error < 3 * after


def test_the_same_seed_gives_the_same_weights() -> None:
    one = SwapSubgraph(nodes=("up", "act", "down"), student="narrow", steps=12, limit=9)
    first, second = network(), network()
    change(first, one)
    change(second, one)
    assert all(np.array_equal(stored(first)[name], stored(second)[name]) for name in stored(first))


def test_a_student_that_is_too_far_is_rolled_back() -> None:
    model = network()
    one = SwapSubgraph(inputs="a", outputs="b", student="identity", limit=0.05)
    report = apply(one, model, data=ROWS)
    assert not report.modified
    a = ROWS["x"] @ normal(6, 6, seed=3)
    b = stored_part(a)
    error = np.square(a - b).sum() / np.square(b - b.mean()).sum()
    reason = reasons(report)["b"]
    assert reason.startswith("identity rolled back: error ")
    assert float(reason.split()[4]) == pytest.approx(error, rel=5e-3)
    assert reason.endswith("> limit=0.05")


def stored_part(a: Array) -> Array:
    part = model_of(
        f"{opset(20)} g (float[N, 6] a) => (float[N, 6] b)"
        " { h = MatMul(a, v)  g = Gelu(h)  b = MatMul(g, w) }",
        v=W,
        w=V,
    )
    values: Array = run(part, a=a)
    return values


def test_without_steps_no_torch_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "onnxcompress.distillation.trainer", raising=False)
    model = network()
    told = change(model, SwapSubgraph(inputs="a", outputs="b", student="relu", steps=0))
    assert "before training" not in told
    with pytest.raises(PassError, match="need PyTorch"):
        context = RuntimeContext(dataset_of(ROWS, Session(io.to_bytes(network())).inputs))
        one = SwapSubgraph(inputs="a", outputs="b", student="relu", steps=1)
        PassManager([one]).run(network(), context)


def test_parts_one_behind_the_other_are_swapped_in_one_recipe() -> None:
    model = network()
    context = RuntimeContext(dataset_of(ROWS, Session(io.to_bytes(model)).inputs))
    recipe = [
        SwapSubgraph(inputs="a", outputs="b", student="relu", steps=0),
        SwapSubgraph(inputs="b", outputs="y", student="low-rank", amount=0.1, steps=0, limit=9),
        SwapSubgraph(inputs="x", outputs="a", student="identity", steps=0, limit=9),
    ]
    reports = PassManager(recipe).run(model, context)
    assert [report.modified for report in reports] == [True, True, True]
    again = PassManager(recipe).run(reload(model), context)
    assert not any(report.modified for report in again)
    assert reasons(again[0])["b"] == "was swapped before for relu"


def student_file(path: Path, text: str, **weights: Array) -> str:
    io.save(model_of(f"{opset(20)} {text}", **weights), path)
    return path.name


def test_a_student_of_the_user_is_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = student_file(
        tmp_path / "student.onnx",
        "s (float[n, 6] input) => (float[n, 6] output)"
        " { p = MatMul(input, u)  r = Relu(p)  q = MatMul(r, t)  output = Add(q, c) }",
        u=normal(6, 16, seed=20) / 3,
        t=normal(16, 6, seed=21) / 5,
        c=normal(6, seed=22) / 9,
    )
    model = network()
    one = SwapSubgraph(
        inputs="a", outputs="b", student=name, epochs=80, learning_rate=0.02, limit=0.3
    )
    after, start = loss_of(change(model, one))
    assert start > 0.6 > 0.3 > after
    assert ops(model) == ["MatMul", "MatMul", "Relu", "MatMul", "Add", "MatMul"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s (float[n, 6] a) => (float[n, 5] b) { b = MatMul(a, u) }", r"'b' is \['n', 5\]"),
        (
            "s (float[n, 6] a) => (float[n, k] b) { b = MatMul(a, u) }",
            r"output 'b' is float32 \[1, 5\]",
        ),
    ],
)
def test_a_student_that_does_not_fit_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = student_file(tmp_path / "student.onnx", text, u=normal(6, 5))
    context = RuntimeContext(dataset_of(ROWS, Session(io.to_bytes(network())).inputs))
    with pytest.raises(PassError, match=message):
        PassManager([SwapSubgraph(inputs="a", outputs="b", student=name)]).run(network(), context)


def test_files_elsewhere_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    student_file(tmp_path / "s.onnx", "s (float[n, 6] a) => (float[n, 6] b) { b = Neg(a) }")
    monkeypatch.chdir(folder)
    context = RuntimeContext(dataset_of(ROWS, Session(io.to_bytes(network())).inputs))
    for name, message in (("../s.onnx", "lies outside"), ("none.onnx", "cannot be read")):
        with pytest.raises(PassError, match=message):
            one = SwapSubgraph(inputs="a", outputs="b", student=name)
            PassManager([one]).run(network(), context)


def test_what_cannot_be_swapped_has_a_reason() -> None:
    report = apply(SwapSubgraph(inputs="a", outputs="b", student="separable"), network(), data=ROWS)
    assert reasons(report)["b"].startswith("the part has no Conv of several channels")
    one = SwapSubgraph(inputs="a", outputs="b", overrides=(Override(None, nodes=("act",)),))
    assert reasons(apply(one, network(), data=ROWS))["b"] == EXCLUDED
    with pytest.raises(PassError, match="needs inputs and outputs"):
        PassManager([SwapSubgraph()]).run(network())
    with pytest.raises(PassError, match="calibration data"):
        PassManager([SwapSubgraph(inputs="a", outputs="b", student="relu")]).run(network())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"student": "smaller"}, "student takes the path of an .onnx file or low-rank, narrow"),
        ({"amount": 1.0}, "amount must be between 0 and 1"),
        ({"limit": -1.0}, "limit must be at least 0"),
        ({"nodes": "a", "inputs": "b"}, "nodes goes with neither"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SwapSubgraph(**options)  # type: ignore[arg-type]


def test_a_recipe_names_one_tensor_or_several() -> None:
    text = '[[pass]]\nname = "swap-subgraph"\ninputs = "a"\noutputs = ["b", "c"]\n'
    recipe = Recipe.parse(text)
    assert recipe.passes == (SwapSubgraph(inputs="a", outputs=("b", "c")),)
    assert Recipe.parse(recipe.dump()) == recipe
    assert parse_pass("drop-block:blocks=sum*") == DropBlock(blocks="sum*")


def test_least_squares_behind_it_needs_no_training() -> None:
    folder = SUBJECTS / "resnet20"
    if not (folder / "model.onnx").is_file():
        pytest.skip("resnet20 was not fetched: python -m benchmarks.subjects fetches it")
    data = load_dataset(str(folder / "calibration.npz"), Session(folder / "model.onnx").inputs)
    context = RuntimeContext(data.take(range(60)))
    swap = SwapSubgraph(nodes="/layer2/layer2.1/*", student="narrow", steps=0, limit=9)
    feeds = next(data.take(range(100, 300)).batches(200)).feeds
    (before,) = Session(folder / "model.onnx").run(feeds).values()
    errors = []
    for recipe in ([swap], [swap, RefitWeights()]):
        model = io.load(folder / "model.onnx")
        names = {node.name for node in model.graph.nodes}
        PassManager(recipe).run(model, context)
        assert {node.name for node in model.graph.nodes} <= names
        (now,) = Session(io.to_bytes(model)).run(feeds).values()
        errors.append(np.square(now - before).mean() / before.var())
    assert errors[1] < 0.5 * errors[0]


LAYER = "/encoder/encoder/layer.{}/output/LayerNorm/LayerNormalization_output_0"


def test_a_block_of_a_raw_export_learns_from_the_one_it_replaces() -> None:
    folder = SUBJECTS / "minilm"
    if not (folder / "model.onnx").is_file():
        pytest.skip("minilm was not fetched: python -m benchmarks.subjects fetches it")
    model = io.load(folder / "model.onnx")
    data = load_dataset(str(folder / "calibration.npz"), Session(folder / "model.onnx").inputs)
    context = RuntimeContext(data.take(range(8)))
    size = model.parameters
    one = SwapSubgraph(
        inputs=LAYER.format(1),
        outputs=LAYER.format(2),
        student="narrow",
        amount=0.75,
        steps=3,
        batch_size=4,
    )
    (report,) = PassManager([one]).run(model, context)
    (detail,) = [each.detail for each in report.changes if each.op == "subgraph"]
    after, start = loss_of(detail)
    assert after < start < 0.1
    assert size - model.parameters == 0.75 * 1536 * (2 * 384 + 1)
    feeds = next(data.take(range(40, 72)).batches(32)).feeds
    (before,) = Session(folder / "model.onnx").run(feeds).values()
    (now,) = Session(io.to_bytes(model)).run(feeds).values()
    assert np.mean(before.argmax(axis=1) == now.argmax(axis=1)) > 0.9
