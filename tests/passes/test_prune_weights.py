from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.masking.ranking import Scope
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneWeights
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import outputs, reload

from .support import Array, apply, model_of, normal, reasons, sqnr, stored_input

# Inputs that go together, as in pictures: others can make up for a weight that goes.
IMAGES = (normal(24, 1, 8, 8) + normal(24, 4, 8, 8, seed=8) / 4).astype(np.float32)

NET = """g (float[N, 4, 8, 8] x) => (float[N, 5] y) {
  [stem] h1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)  h2 = Relu(h1)
  [depthwise] h3 = Conv <group = 8> (h2, w2)  [up] h4 = ConvTranspose <group = 2> (h3, w3)
  h5 = Flatten(h4)  [hidden] h6 = MatMul(h5, w4)  [head] y = Gemm <transB = 1> (h6, w5, b5) }"""
WEIGHTS = {
    "w1": normal(8, 4, 3, 3, seed=1),
    "b1": normal(8, seed=2),
    "w2": normal(8, 1, 3, 3, seed=3) / 10,
    "w3": normal(8, 2, 2, 2, seed=4),
    "w4": normal(196, 16, seed=5) / 10,
    "w5": normal(5, 16, seed=6),
    "b5": normal(5, seed=7),
}
WEIGHTED = {"stem": "w1", "depthwise": "w2", "up": "w3", "hidden": "w4", "head": "w5"}
DATA_FREE = (Criterion.L1, Criterion.L2, Criterion.RANDOM, Criterion.THRESHOLD)


def _net() -> Model:
    return model_of(NET, **{name: array.astype(np.float32) for name, array in WEIGHTS.items()})


def _pruned(model: Model) -> dict[str, Array]:
    return {name: stored_input(model, name, 1) for name in WEIGHTED}


def _zeros(*arrays: Array) -> int:
    return sum(int(np.count_nonzero(array == 0)) for array in arrays)


@pytest.mark.parametrize("criterion", DATA_FREE)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.75, 1.0])
def test_every_node_loses_the_exact_share(criterion: Criterion, sparsity: float) -> None:
    model = _net()
    report = apply(PruneWeights(criterion=criterion, sparsity=sparsity), model)
    assert report.modified == (sparsity > 0)
    for name, values in _pruned(model).items():
        before = WEIGHTS[WEIGHTED[name]].astype(np.float32)
        assert _zeros(values) == round(sparsity * values.size)
        np.testing.assert_array_equal(values[values != 0], before[values != 0])
        if criterion is not Criterion.RANDOM and 0 < sparsity < 1:
            assert np.abs(before[values == 0]).max() <= np.abs(values[values != 0]).min()
    np.testing.assert_array_equal(stored_input(model, "stem", 2), WEIGHTS["b1"])
    outputs(reload(model), {"x": IMAGES})


def test_one_threshold_over_the_model_and_over_operators() -> None:
    model = _net()
    options = {"criterion": Criterion.L1, "sparsity": 0.6, "layer_adaptive": False}
    apply(PruneWeights(scope=Scope.GLOBAL, **options), model)
    before = np.concatenate([WEIGHTS[name].reshape(-1) for name in WEIGHTED.values()])
    after = np.concatenate([values.reshape(-1) for values in _pruned(model).values()])
    gone = round(0.6 * before.size)
    limit = np.sort(np.abs(before.astype(np.float32)))[gone]
    np.testing.assert_array_equal(after, np.where(np.abs(before) >= limit, before, 0))
    assert _zeros(after) == gone

    model = _net()
    apply(PruneWeights(scope=Scope.OP_TYPE, **options), model)
    found = _pruned(model)
    assert _zeros(found["stem"], found["depthwise"]) == round(0.6 * (288 + 72))
    assert _zeros(found["depthwise"]) > 0.9 * 72  # its weights are a tenth as large
    assert _zeros(found["up"]) == round(0.6 * 64)
    model = _net()
    apply(PruneWeights(scope=Scope.OP_TYPE, criterion=Criterion.L1, sparsity=0.6), model)
    found = _pruned(model)
    assert _zeros(found["stem"], found["depthwise"]) == round(0.6 * (288 + 72))
    assert _zeros(found["depthwise"]) < 0.7 * 72


def test_every_output_loses_the_same() -> None:
    model = _net()
    apply(PruneWeights(scope=Scope.OUTPUT, sparsity=0.25), model)
    found = _pruned(model)
    assert (np.count_nonzero(found["hidden"] == 0, axis=0) == 49).all()
    assert (np.count_nonzero(found["head"] == 0, axis=1) == 4).all()
    assert (np.count_nonzero(found["stem"] == 0, axis=(1, 2, 3)) == 9).all()


def test_a_pattern_holds_along_input_channels() -> None:
    model = _net()
    report = apply(PruneWeights(n_m="2:4", sparsity=0.9), model)
    assert reasons(report) == {"depthwise": "its 1 input channels are no multiple of 4"}
    found = _pruned(model)
    for along in (
        found["stem"].transpose(0, 2, 3, 1),
        found["up"].reshape(2, 4, 2, 2, 2).transpose(0, 2, 3, 4, 1),
        found["hidden"].T,
        found["head"],
    ):
        fours = along.reshape(-1, 4)
        assert (np.count_nonzero(fours, axis=1) == 2).all()
    ordered = np.sort(np.abs(WEIGHTS["w5"].reshape(-1, 4)), axis=1)
    kept = np.sort(np.abs(found["head"].reshape(-1, 4)), axis=1)
    np.testing.assert_array_equal(kept[:, 2:], ordered[:, 2:])


def test_blocks_stay_or_go_as_a_whole() -> None:
    model = _net()
    apply(PruneWeights(block_size=4, sparsity=0.5), model)
    found = _pruned(model)
    for along in (found["stem"].reshape(8, 36), found["hidden"].T, found["head"]):
        fours = np.count_nonzero(along.reshape(-1, 4), axis=1)
        assert set(fours) == {0, 4}
        assert (fours == 0).sum() == round(0.5 * len(fours))


def test_a_threshold_that_is_given() -> None:
    model = _net()
    apply(PruneWeights(criterion=Criterion.THRESHOLD, threshold=0.1, sparsity=0.9), model)
    for name, values in _pruned(model).items():
        before = WEIGHTS[WEIGHTED[name]].astype(np.float32)
        np.testing.assert_array_equal(values, np.where(np.abs(before) >= 0.1, before, 0))


def test_importances_that_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = np.abs(normal(196, 16, seed=20))
    np.savez("table.npz", w1=np.float32(1), w3=np.float32(100), w4=table, misspelt=np.ones(3))
    model = _net()
    pass_ = PruneWeights(criterion=Criterion.GIVEN, importances="table.npz")
    report = apply(pass_, model)
    found = _pruned(model)
    np.testing.assert_array_equal(found["hidden"] == 0, table < np.median(table))
    assert _zeros(found["stem"]) == 144
    assert reasons(report) == {
        "depthwise": "table.npz does not name 'w2'",
        "head": "table.npz does not name 'w5'",
        "misspelt": "names no stored tensor",
    }
    model = _net()
    rest = (Override(None, nodes=("depthwise", "hidden", "head")),)
    PassManager(
        [
            PruneWeights(
                criterion=Criterion.GIVEN,
                importances="table.npz",
                scope=Scope.GLOBAL,
                layer_adaptive=False,
                sparsity=0.3,
                overrides=rest,
            )
        ]
    ).run(model)
    assert _zeros(stored_input(model, "up", 1)) < 5  # a hundred times as important
    assert Recipe.parse(Recipe.of([pass_]).dump()) == Recipe.of([pass_])


def test_wanda_weighs_inputs() -> None:
    text = "g (float[N, 6, 8] x) => (float[N, 6, 4] y) { [n] y = MatMul(x, w) }"
    data, weight = normal(30, 6, 8) * np.arange(1, 9, dtype=np.float32), normal(8, 4, seed=1)
    model = model_of(text, w=weight)
    apply(PruneWeights(criterion=Criterion.WANDA), model, data={"x": data})
    norms = np.linalg.norm(data.reshape(-1, 8).astype(np.float64), axis=0)
    ranked = np.abs(weight) * norms[:, None]
    expected = np.where(ranked > np.sort(ranked.reshape(-1))[15], weight, 0)
    np.testing.assert_array_equal(stored_input(model, "n", 1), expected)


@pytest.mark.parametrize(
    ("scope", "decibels"),
    [(Scope.OUTPUT, 0.4), (Scope.NODE, 2.0), (Scope.OP_TYPE, 1.5), (Scope.GLOBAL, 5.0)],
)
def test_second_order_changes_outputs_less_than_l2(scope: Scope, decibels: float) -> None:
    noise: dict[Criterion, float] = {}
    for criterion in (Criterion.L2, Criterion.SECOND_ORDER):
        model = _net()
        before = outputs(model, {"x": IMAGES})["y"]
        skip = (Override(None, nodes=("up",)),)
        report = apply(
            PruneWeights(criterion=criterion, scope=scope, overrides=skip),
            model,
            data={"x": IMAGES},
        )
        assert reasons(report) == {"up": EXCLUDED}
        found = _pruned(model)
        del found["up"]
        total = sum(values.size for values in found.values())
        exact = scope is not Scope.OUTPUT  # of 9 weights 4 or 5 go
        assert _zeros(*found.values()) == total // 2 or not exact
        noise[criterion] = sqnr(before, outputs(model, {"x": IMAGES})["y"])
    assert noise[Criterion.SECOND_ORDER] > noise[Criterion.L2] + decibels


def test_second_order_in_patterns_and_blocks() -> None:
    for options in ({"n_m": "2:4"}, {"block_size": 2}):
        model = _net()
        given: dict[str, Any] = {"criterion": Criterion.SECOND_ORDER, **options}
        apply(PruneWeights(**given), model, data={"x": IMAGES})
        hidden = stored_input(model, "hidden", 1).T
        assert _zeros(hidden) == hidden.size // 2
        if "n_m" in options:
            assert (np.count_nonzero(hidden.reshape(-1, 4), axis=1) == 2).all()
        else:
            assert set(np.count_nonzero(hidden.reshape(-1, 2), axis=1)) == {0, 2}
        assert (hidden != np.where(hidden != 0, WEIGHTS["w4"].T, 0)).any()  # others made up for it


def test_what_criteria_cannot_judge_is_told() -> None:
    model = _net()
    report = apply(PruneWeights(criterion=Criterion.WANDA), model, data={"x": IMAGES})
    assert reasons(report) == {
        "up": "wanda needs its inputs: spreads its inputs over overlapping outputs"
    }
    model = model_of(
        "g (float[N, 4] x) => (float[N, 2] y) { [n] y = MatMul(x, w) }", w=normal(4, 2)
    )
    zeros = np.zeros((5, 4), np.float32)
    report = apply(PruneWeights(criterion=Criterion.SECOND_ORDER), model, data={"x": zeros})
    assert reasons(report) == {
        "n": "its inputs are zero, or not finite, throughout: more or other calibration data is "
        "needed"
    }


@pytest.mark.parametrize("criterion", [Criterion.WANDA, Criterion.SECOND_ORDER])
def test_without_data_it_says_what_it_wants(criterion: Criterion) -> None:
    with pytest.raises(PassError, match=r"prune-weights.*calibration data"):
        PassManager([PruneWeights(criterion=criterion)]).run(_net())


def test_a_channel_without_input_goes_first() -> None:
    model = model_of(
        "g (float[N, 4, 3, 3] x) => (float y) { [n] y = Conv <group = 4> (x, w) }",
        w=normal(4, 1, 2, 2),
    )
    data = normal(8, 4, 3, 3)
    data[:, 2] = 0
    apply(PruneWeights(criterion=Criterion.SECOND_ORDER, sparsity=0.25), model, data={"x": data})
    assert np.count_nonzero(stored_input(model, "n", 1), axis=(1, 2, 3)).tolist() == [4, 4, 0, 4]


def test_recurrent_weights_and_float16() -> None:
    model = model_of(
        """g (float[4, 2, 3] x, float16[2, 4] v) => (float y, float16 z) {
          [lstm] y, h, c = LSTM <hidden_size = 5> (x, w, r)  [half] z = MatMul(v, u) }""",
        w=normal(1, 20, 3),
        r=normal(1, 20, 5),
        u=normal(4, 6).astype(np.float16),
    )
    apply(PruneWeights(), model)
    assert _zeros(stored_input(model, "lstm", 1)) == 30
    assert _zeros(stored_input(model, "lstm", 2)) == 50
    half = stored_input(model, "half", 1)
    assert half.dtype == np.float16 and _zeros(half) == 12


def test_a_weight_of_several_readers_is_pruned_once_in_bodies_too() -> None:
    model = model_of(
        """g (float[2, 4] x, bool c) => (float[2, 4] y) {
          [one] a = MatMul(x, w)  [two] b = MatMul(a, w)
          y = If (c) < then_branch = t () => (float[2, 4] p) { [inner] p = Gemm(b, w) },
            else_branch = e () => (float[2, 4] q) { [own] q = MatMul(b, v) }> }""",
        w=normal(4, 4),
        v=normal(4, 4, seed=1),
    )
    apply(PruneWeights(), model)
    assert len([constant for constant in model.constants() if constant.shape == (4, 4)]) == 2
    for name in ("one", "two", "inner", "own"):
        assert _zeros(stored_input(model, name, 1)) == 8
    again = reload(model)
    for choice in (True, False):
        feeds = {"x": normal(2, 4), "c": np.array(choice)}
        np.testing.assert_array_equal(outputs(model, feeds)["y"], outputs(again, feeds)["y"])


def test_overrides_hold_for_their_nodes() -> None:
    model = _net()
    overrides = (
        Override(None, nodes=("head",)),
        Override(PruneWeights(sparsity=0.75), op_types=("Conv",)),
    )
    report = apply(PruneWeights(overrides=overrides), model)
    assert reasons(report) == {"head": EXCLUDED}
    found = _pruned(model)
    shares = {name: _zeros(values) / values.size for name, values in found.items()}
    assert shares == {"stem": 0.75, "depthwise": 0.75, "up": 0.5, "hidden": 0.5, "head": 0}


def test_a_second_run_says_that_nothing_is_left_to_do() -> None:
    model = _net()
    for sparsity in (0.8, 0.8, 0.5):
        (report,) = PassManager([PruneWeights(sparsity=sparsity)]).run(model)
    assert not report.modified
    assert set(reasons(report).values()) == {"it is as sparse as asked for already"}
    assert _zeros(stored_input(model, "head", 1)) == 64


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("criterion=batchnorm", "batchnorm ranks channels; use it in prune-channels"),
        ("criterion=geometric-median", "ranks channels"),
        ("sparsity=1.5", "sparsity must be from 0 to 1, not 1.5"),
        ("block_size=0", "block_size must be at least 1"),
        ("threshold=0.1", "with criterion threshold alone"),
        ("criterion=threshold,threshold=-1.0", "a number from 0 up"),
        ("criterion=given", "importances, the path of an .npz file, goes with criterion given"),
        ("importances=x.npz", "goes with criterion given"),
        ("n_m=4:2", "n_m '4:2' must keep at least 1 of the weights, and not all"),
        ("n_m=2:4,block_size=2", "n_m goes with neither block_size nor threshold"),
        ("criterion=magnitude", "takes l1 | l2 | random"),
    ],
)
def test_options_that_mean_nothing_are_refused(text: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told.replace("|", r"\|")):
        parse_pass(f"prune-weights:{text}")


@pytest.mark.parametrize("subject", ["resnet20", "minilm"], indirect=True)
@pytest.mark.parametrize("criterion", [Criterion.WANDA, Criterion.SECOND_ORDER])
def test_a_raw_export_keeps_most_of_its_accuracy(subject: Path, criterion: Criterion) -> None:
    path = subject / "model.onnx"
    original = Session(path)
    test = load_dataset(str(subject / "test.npz"), original.inputs)
    calibration = load_dataset(str(subject / "calibration.npz"), original.inputs)
    context = RuntimeContext(calibration.take(range(16)))
    model = io.load(path)
    (report,) = PassManager([PruneWeights(criterion=criterion, sparsity=0.3)]).run(model, context)
    pruned = {change.node for change in report.changes if change.detail.endswith("are zero")}
    assert len(pruned) == {"resnet20": 20, "minilm": 37}[subject.name]
    weights = [stored_input(model, name, 1) for name in pruned]
    gone, size = _zeros(*weights), sum(values.size for values in weights)
    assert abs(gone - 0.3 * size) <= len(weights)
    compressed = Session(io.to_bytes(model))
    hits = np.zeros(2)
    for batch in test.take(range(60)).batches(10):
        assert batch.labels is not None
        for index, session in enumerate((original, compressed)):
            answers = next(iter(session.run(batch.feeds).values())).argmax(axis=1)
            hits[index] += (answers == batch.labels).sum()
    assert hits[1] >= 0.9 * hits[0]
