from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of, load_dataset
from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override, Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import DropBlock, StripPruned
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.students.block_importance import BlockCriterion
from onnxcompress.students.blocks import find_blocks, whole_blocks
from tests.architectures.specification import Exporter
from tests.architectures.table import ARCHITECTURES
from tests.conftest import SUBJECTS
from tests.helpers import ops, outputs, reload, run

from .support import Array, apply, model_of, normal, reasons

if TYPE_CHECKING:
    from tests.architectures.export import Exports

ROWS = {"x": normal(16, 6, seed=9)}


def chain(*strengths: float, tail: str = "y = Identity(s{last})") -> Model:
    """Residual blocks x + strength * relu(x V) W, one after another."""
    lines, tensor = [], "x"
    weights: dict[str, Array] = {}
    for number, strength in enumerate(strengths):
        weights[f"v{number}"] = normal(6, 6, seed=2 * number)
        weights[f"w{number}"] = strength * normal(6, 6, seed=2 * number + 1)
        lines.append(
            f"h{number} = MatMul({tensor}, v{number})  r{number} = Relu(h{number})"
            f"  f{number} = MatMul(r{number}, w{number})"
            f"  [sum{number}] s{number} = Add({tensor}, f{number})"
        )
        tensor = f"s{number}"
    body = "  ".join([*lines, tail.format(last=len(strengths) - 1)])
    return model_of(f"g (float[N, 6] x) => (float[N, 6] y) {{ {body} }}", **weights)


@pytest.mark.parametrize("criterion", BlockCriterion)
def test_the_block_that_changes_least_goes(criterion: BlockCriterion) -> None:
    model = chain(1.0, 0.01, 1.0)
    report = apply(DropBlock(count=1, criterion=criterion), model, data=ROWS)
    assert ops(model) == ["MatMul", "Relu", "MatMul", "Add"] * 2 + ["Identity"]
    (change,) = [each for each in report.changes if each.op == "block"]
    assert change.node == "sum1"
    assert change.detail.startswith("from s0 to s1, importance 0.00")
    assert reasons(report)["sum0"].startswith("stays: block from x to s0, importance ")
    np.testing.assert_array_equal(
        run(model, **ROWS),
        run(_second_left_out(), **ROWS),
    )


def _second_left_out() -> Model:
    model = chain(1.0, 0.01, 1.0)
    (node,) = [node for node in model.graph.nodes if node.name == "sum2"]
    first = next(
        node for node in model.graph.nodes if node.name == "h2" or node.name == "MatMul_h2"
    )
    (total,) = [node.outputs[0] for node in model.graph.nodes if node.name == "sum0"]
    node.inputs[0] = total
    first.inputs[0] = total
    return model


def test_importances_are_what_they_say() -> None:
    model = chain(1.0, 0.3)
    tensors = model_of_tensors(model)
    x, y = tensors["s0"].astype(np.float64), tensors["s1"].astype(np.float64)
    cosines = (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    wanted = {
        BlockCriterion.COSINE: 1 - cosines.mean(),
        BlockCriterion.CHANGE: np.square(y - x).sum() / np.square(y).sum(),
        BlockCriterion.OUTPUTS: np.square(y - x).sum() / np.square(y - y.mean()).sum(),
    }
    for criterion, value in wanted.items():
        report = apply(DropBlock(count=1, criterion=criterion), chain(1.0, 0.3), data=ROWS)
        told = {each.node: each.detail for each in report.changes if each.op == "block"}
        found = float((told | reasons(report))["sum1"].split()[-3])
        assert found == pytest.approx(value, rel=5e-3)


def model_of_tensors(model: Model) -> dict[str, Array]:
    context = RuntimeContext(dataset_of(ROWS, Session(io.to_bytes(model)).inputs))
    batch = next(context.activations(model, ["s0", "s1"]))
    return dict(batch)


def test_consecutive_blocks_and_an_end_that_is_an_output() -> None:
    model = chain(0.01, 0.01, 1.0, 0.01, tail="z = Identity(s0)")
    model.graph.outputs[:] = [model.graph.nodes[-2].outputs[0]]
    name = model.graph.outputs[0].name
    apply(DropBlock(count=3), model, data=ROWS)
    assert [op for op in ops(model) if op != "Identity"] == ["MatMul", "Relu", "MatMul", "Add"]
    assert list(outputs(reload(model), ROWS)) == [name]


def test_names_need_no_data_and_are_dropped_once() -> None:
    model = chain(1.0, 1.0, 1.0)
    report = apply(DropBlock(blocks=("sum[02]", "nothing")), model)
    assert ops(model).count("Add") == 1
    assert reasons(report)["nothing"] == "names no block of sum0, sum1, sum2"
    report = PassManager([DropBlock(blocks="sum0")]).run(model)[0]
    assert reasons(report)["sum0"] == "was dropped before"


def test_an_amount_is_one_of_the_original() -> None:
    model = chain(1.0, 0.1, 0.2, 0.3)
    wanted = DropBlock(amount=0.5)
    half = wanted.scaled(0.5)
    assert half is not None
    apply(half, model, data=ROWS)
    assert ops(model).count("Add") == 3
    report = apply(wanted, reload(model), data=ROWS)
    assert sum(each.op == "block" for each in report.changes) == 1
    report = apply(half, model, data=ROWS)
    assert set(reasons(report).values()) == {"stays: 1 of 4 blocks are gone already"}
    assert DropBlock(blocks="sum1").scaled(0.5) is None


def test_what_is_no_block() -> None:
    model = model_of(
        "g (float[N, 6] x, float[1, 6] m) => (float[N, 6] y) {"
        " c = Mul(x, x)  d = Add(x, c)"  # an activation function
        " e = MatMul(d, w)  f = MatMul(d, v)  h = Add(e, f)"  # two branches
        " k = MatMul(m, w)  j = Add(m, k)  l = Add(h, j)"  # broadcast over samples
        " y = Identity(l) }",
        w=normal(6, 6),
        v=normal(6, 6, seed=1),
    )
    context = RuntimeContext(
        dataset_of({"x": normal(4, 6), "m": normal(4, 6)}, Session(io.to_bytes(model)).inputs)
    )
    assert [block.name for block in find_blocks(model, context.types(model))] == ["Add_j"]


def test_a_model_without_blocks_says_so() -> None:
    model = model_of("g (float[N, 6] x) => (float[N, 6] y) { y = MatMul(x, w) }", w=normal(6, 6))
    report = apply(DropBlock(), model, data=ROWS)
    assert list(reasons(report)) == ["g"]


def test_too_much_is_refused_and_exclusions_hold() -> None:
    model = chain(1.0, 1.0)
    context = RuntimeContext(dataset_of(ROWS, Session(io.to_bytes(model)).inputs))
    with pytest.raises(PassError, match="3 blocks are to go, but there are 2 that may"):
        PassManager([DropBlock(count=3)]).run(model, context)
    one = DropBlock(count=1, overrides=(Override(None, nodes=("sum0",)),))
    report = apply(one, model, data=ROWS)
    assert reasons(report)["sum0"] == EXCLUDED
    with pytest.raises(PassError, match="calibration data"):
        PassManager([DropBlock(count=1)]).run(chain(1.0, 1.0))


@pytest.mark.parametrize(
    ("options", "message"), [({"count": 0}, "count must be"), ({"amount": 1.0}, "amount must be")]
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        DropBlock(**options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_three_of_six_blocks_of_a_raw_export() -> None:
    path = _subject("minilm") / "model.onnx"
    data = load_dataset(str(_subject("minilm") / "calibration.npz"), Session(path).inputs)
    context = RuntimeContext(data.take(range(8)))
    model = io.load(path)
    blocks = find_blocks(model, context.types(model))
    assert [block.attends for block in blocks] == [True, False] * 6
    assert len(whole_blocks(blocks)) == 6
    (report,) = PassManager([DropBlock(count=3)]).run(model, context)
    assert sum(node.op == "Softmax" for _, node in model.nodes()) == 3
    assert sum(node.op == "LayerNormalization" for _, node in model.nodes()) == 7
    assert sum(each.op == "block" for each in report.changes) == 3
    feeds = next(data.take(range(64)).batches(64)).feeds
    (before,) = Session(path).run(feeds).values()
    (after,) = Session(io.to_bytes(model)).run(feeds).values()
    assert np.mean(before.argmax(axis=1) == after.argmax(axis=1)) > 0.7
    assert not PassManager([DropBlock(count=3)]).run(model, context)[0].modified


def test_a_normalization_stays_where_the_start_has_none() -> None:
    path = _subject("resnet20") / "model.onnx"
    data = load_dataset(str(_subject("resnet20") / "calibration.npz"), Session(path).inputs)
    context = RuntimeContext(data.take(range(32)))
    model = io.load(path)
    blocks = find_blocks(model, context.types(model))
    assert len(blocks) == 7  # 9 less those where width and resolution change
    assert {block.end.inputs[0].op for block in blocks} == {"Relu"}
    PassManager([DropBlock(count=2), StripPruned()]).run(model, context)
    assert sum(node.op == "Conv" for _, node in model.nodes()) == 15


BLOCKS = {
    "resnet-basic": 2,
    "mobilenet-v2": 2,
    "convnext": 2,
    "vit": 2,
    "vit-torch-attention": 2,
    "bert": 2,
    "sdpa-encoder": 1,
    "gpt": 2,
}
"""Blocks of each architecture, attentions joined to what follows them."""


@pytest.mark.parametrize("exporter", [Exporter.TRACED, Exporter.DYNAMO])
@pytest.mark.parametrize("name", BLOCKS)
def test_exports_run_without_any_one_of_their_blocks(
    name: str, exporter: Exporter, exports: Exports
) -> None:
    architecture = next(each for each in ARCHITECTURES if each.name == name)
    path = exports.path(architecture, exporter)
    feeds = architecture.feeds(3)
    context = RuntimeContext(dataset_of(feeds, Session(path).inputs))
    model = io.load(path)
    found = whole_blocks(find_blocks(model, context.types(model)))
    assert len(found) == BLOCKS[name]
    for block in found:
        smaller = io.load(path)
        drop: Pass = DropBlock(blocks=block.name)
        PassManager([drop]).run(smaller, context)
        assert smaller.parameters < model.parameters
        other = architecture.feeds(2, sequence=5, seed=1)
        (before,) = Session(path).run(other).values()
        (after,) = Session(io.to_bytes(smaller)).run(other).values()
        assert after.shape == before.shape


def _subject(name: str) -> Path:
    if not (SUBJECTS / name / "model.onnx").is_file():
        pytest.skip(f"{name} was not fetched: python -m benchmarks.subjects fetches it")
    return SUBJECTS / name
