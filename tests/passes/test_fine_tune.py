"""Fine-tuning under the pass manager: what it starts from, keeps and records."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxcompress
from onnxcompress.data.loading import load_dataset
from onnxcompress.distillation.augmentation import Augmentation
from onnxcompress.distillation.plan import Grid, OutputLoss
from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override, Pass, PassReport
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import (
    BinarizeWeights,
    FineTune,
    PruneChannels,
    PruneWeights,
    QuantizeStatic,
    QuantizeWeights,
    RefitWeights,
    StripPruned,
)
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.conftest import SUBJECTS
from tests.distillation.models import forward, moved, perceptron, samples
from tests.helpers import outputs
from tests.passes.support import normal, reasons, stored, stored_input

pytestmark = pytest.mark.slow

MSE = OutputLoss.MSE


def tuned(**options: object) -> FineTune:
    defaults = FineTune(epochs=20, learning_rate=1e-2, batch_size=8, held_out=0.2, loss=MSE)
    return dataclasses.replace(defaults, **options)  # type: ignore[arg-type]


def run(model: Model, *passes: Pass, **options: object) -> list[PassReport]:
    data = options.pop("data", None) or samples(perceptron())
    return PassManager(passes).run(model, RuntimeContext(data, **options))  # type: ignore[arg-type]


def weights(model: Model) -> dict[str, np.ndarray]:
    """Those of `perceptron`, whatever passes call them."""
    places = {"w1": ("Gemm_a", 1), "b1": ("Gemm_a", 2), "w2": ("Gemm_z", 1), "b2": ("Gemm_z", 2)}
    return {name: stored_input(model, *place) for name, place in places.items()}


def error(model: Model, other: Model) -> float:
    x = {"x": normal(200, 6, seed=99)}
    return float(np.square(outputs(model, x)["y"] - outputs(other, x)["y"]).mean())


def test_pruned_weights_recover_and_their_zeros_stay() -> None:
    original = perceptron()
    model, bare = clone(original), clone(original)
    prune = PruneWeights(sparsity=0.4, criterion=Criterion.L1)
    run(bare, prune)
    report = run(model, prune, tuned())[1]
    assert report.changes[0].detail.startswith("loss on held-out samples ")
    assert len(report.changes) == 5
    for name in ("w1", "w2"):
        assert np.array_equal(weights(model)[name] == 0, weights(bare)[name] == 0)
        assert not np.array_equal(weights(model)[name], weights(bare)[name])
    assert error(model, original) < 0.5 * error(bare, original)
    free = clone(original)
    run(free, prune, tuned(keep_zeros=False))
    assert np.count_nonzero(weights(free)["w1"]) > np.count_nonzero(weights(model)["w1"])


def test_biases_of_dead_channels_stay_zero_others_may_move() -> None:
    model = perceptron()
    for constant in model.constants():
        if constant.name == "b1":  # a zero from before any pruning
            constant.values = np.where(np.arange(8) == 7, 0, constant.values).astype(np.float32)
    start = clone(model)
    pruning = PruneChannels(amount=0.5, multiple=1)
    run(model, pruning)
    dead = ~weights(model)["w1"].any(axis=0)
    assert dead.sum() == 4
    again = clone(start)
    run(again, pruning, tuned())
    found = weights(again)
    assert not found["w1"][:, dead].any()
    assert not found["b1"][dead].any()
    assert not found["w2"][dead].any()
    assert found["b1"][~dead].all()


@pytest.mark.parametrize("quantize", [QuantizeStatic(), QuantizeWeights(min_elements=1)])
def test_quantized_weights_recover_as_integers(quantize) -> None:
    original = perceptron()
    model = clone(original)
    student = moved(original, 0.1)
    for ours, theirs in zip(model.constants(), student.constants(), strict=True):
        ours.values = theirs.values
    teacher_file_model = clone(model)
    run(teacher_file_model, quantize)
    context = RuntimeContext(samples(original)).with_original_model(original)
    PassManager([quantize, tuned(learn_scales=True)]).run(model, context)
    assert error(model, original) < 0.5 * error(teacher_file_model, original)
    kinds = {name: each.dtype for name, each in stored(teacher_file_model).items()}
    assert {name: each.dtype for name, each in stored(model).items()} == kinds
    x = {"x": normal(50, 6, seed=1)}
    plain, fused = outputs(model, x)["y"], Session(io.to_bytes(model)).run(x)["y"]
    # onnxruntime's integer kernels take the bias as it is, whatever its scale says.
    limit = 1e-4 if isinstance(quantize, QuantizeStatic) else 0.05
    assert np.abs(plain - fused).max() < limit * np.abs(plain).max()


def test_pruned_integers_stay_zero() -> None:
    model = perceptron()
    passes = PruneWeights(sparsity=0.5), QuantizeWeights(min_elements=1)
    bare = clone(model)
    run(bare, *passes)
    run(model, *passes, tuned())
    integers = {
        name for name, each in stored(bare).items() if each.dtype == np.int8 and each.ndim > 1
    }
    assert len(integers) == 2
    for name in integers:
        gone = stored(bare)[name] == 0
        assert gone.mean() >= 0.5
        assert not stored(model)[name][gone].any()
        assert not np.array_equal(stored(model)[name], stored(bare)[name])


def test_excluded_nodes_keep_their_weights_and_say_so() -> None:
    model = moved(perceptron())
    before = stored(model)
    context = RuntimeContext(samples(model)).with_original_model(perceptron())
    pass_ = tuned(overrides=(Override(None, nodes=("Gemm_a",)),))
    report = PassManager([pass_]).run(model, context)[0]
    assert reasons(report) == {"Gemm_a": EXCLUDED}
    assert len(report.skips) == 1
    after = stored(model)
    assert {name for name in after if not np.array_equal(after[name], before[name])} == {"w2", "b2"}


def test_a_grid_holds_single_nodes() -> None:
    model = perceptron()
    pass_ = tuned(overrides=(Override(nodes=("Gemm_a",), options=tuned(grid=Grid.BINARY)),))
    run(model, PruneWeights(sparsity=0.2), pass_)
    found = weights(model)
    assert all(len(np.unique(np.abs(column))) == 1 for column in found["w1"].T)
    assert all(column.all() for column in found["w1"].T)  # a sign is never zero
    assert (found["w2"] == 0).mean() >= 0.2
    before = outputs(model, {"x": normal(9, 6)})["y"]
    only = (Override(None, nodes=("Gemm_z",)),)
    run(model, BinarizeWeights(min_elements=1, overrides=only))
    assert all(each.size < 48 for each in stored(model).values() if each.dtype == np.float32)
    np.testing.assert_allclose(
        outputs(model, {"x": normal(9, 6)})["y"], before, rtol=1e-5, atol=1e-6
    )


def test_penalties_make_weights_and_units_small() -> None:
    start = stored(perceptron())

    def left(**options: float) -> dict[str, np.ndarray]:
        model = perceptron()
        run(model, tuned(epochs=60, patience=100, **options))
        return stored(model)

    assert np.abs(left(l1=1.0)["w1"]).mean() < 0.7 * np.abs(start["w1"]).mean()
    assert np.square(left(l2=1.0)["w1"]).mean() < 0.7 * np.square(start["w1"]).mean()
    found = left(group_lasso=1.0)
    norms = np.sqrt(np.square(found["w1"]).sum(axis=0) + np.square(found["w2"]).sum(axis=1))
    before = np.sqrt(np.square(start["w1"]).sum(axis=0) + np.square(start["w2"]).sum(axis=1))
    assert norms.min() / norms.max() < 0.6 * before.min() / before.max()


def test_labels_alone() -> None:
    x = normal(200, 6, seed=9)
    labels = forward(stored(perceptron(seed=3)), x).argmax(axis=1)
    model = perceptron()
    data = samples(model, 200, labels=labels)
    run(model, tuned(outputs=0.0, labels=1.0), data=data)
    assert (forward(stored(model), x).argmax(axis=1) == labels).mean() > 0.85


def test_training_data_stand_in_for_calibration_data() -> None:
    model = moved(perceptron())
    context = RuntimeContext(training=samples(model)).with_original_model(perceptron())
    assert PassManager([tuned()]).run(model, context)[0].modified


def test_no_data_is_told() -> None:
    with pytest.raises(PassError, match="training needs samples; pass --training, or --data"):
        PassManager([FineTune()]).run(perceptron(), RuntimeContext())


def test_no_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.split(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("trainer", "gradients"):
        monkeypatch.delitem(sys.modules, f"onnxcompress.distillation.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    wanted = r"training and gradients need PyTorch: pip install 'onnxcompress\[torch\]'"
    for pass_ in (FineTune(), PruneWeights(sparsity=0.5, criterion=Criterion.TAYLOR)):
        with pytest.raises(PassError, match=wanted):
            run(perceptron(), pass_)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epochs": -1}, "epochs=-1 is out of range"),
        ({"steps": -1}, "steps=-1 is out of range"),
        ({"time_limit": 0}, "time_limit=0 is out of range"),
        ({"learning_rate": 0}, "learning_rate=0 is out of range"),
        ({"batch_size": 0}, "batch_size=0 is out of range"),
        ({"temperature": 0}, "temperature=0 is out of range"),
        ({"held_out": 1}, "held_out=1 is out of range"),
        ({"patience": 0}, "patience=0 is out of range"),
        ({"average": 1}, "average=1 is out of range"),
        ({"l1": -1}, "l1=-1 is out of range"),
        ({"group_lasso": -1}, "group_lasso=-1 is out of range"),
        ({"outputs": 0}, "nothing to learn from: outputs, labels and features are all 0"),
        (
            {"augment": Augmentation.MIXUP, "labels": 1.0},
            "augment=mixup mixes samples, which no label fits",
        ),
    ],
)
def test_options_that_mean_nothing_are_refused(options, told) -> None:
    with pytest.raises(RecipeError, match=f"pass 'fine-tune': {told}"):
        FineTune(**options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"features": 1.0}, "have no tensor of the same name and shape among sums of a residual"),
        ({"features": 1.0, "tensors": ("q*",)}, r"of the same name and shape among of q\*"),
    ],
)
def test_features_that_the_models_do_not_share_are_refused(options, told) -> None:
    with pytest.raises(PassError, match=told):
        run(perceptron(), FineTune(**options))


def test_options_that_hold_for_all_nodes_are_told_where_an_override_changes_them() -> None:
    model = perceptron()
    first = next(iter(model.graph.nodes)).name
    pass_ = tuned(steps=2)
    override = Override(dataclasses.replace(pass_, learning_rate=0.5, batch_size=3), nodes=(first,))
    report = run(model, dataclasses.replace(pass_, overrides=(override,)))[0]
    told = "learning_rate, batch_size of its override: only exclude and grid hold for single nodes"
    assert told in [skip.reason for skip in report.skips if skip.node == first]


def test_checkpoints_are_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pass_ = tuned(checkpoint=str(tmp_path / "training.npz"))
    results = []
    for _ in range(2):
        model = perceptron()
        run(model, PruneWeights(sparsity=0.4), pass_)
        results.append({name: each.tobytes() for name, each in stored(model).items()})
    assert results[0] == results[1]
    assert (tmp_path / "training.npz").is_file()


def test_average_is_stored() -> None:
    """Other weights than the last step's, from the same steps."""
    stored_ones = []
    for average in (0.0, 0.9):
        model = moved(perceptron())
        context = RuntimeContext(samples(model)).with_original_model(perceptron())
        PassManager([tuned(steps=12, average=average)]).run(model, context)
        stored_ones.append(weights(model))
    last, mean = stored_ones
    start = weights(moved(perceptron()))
    for name in last:
        went, mean_went = (np.abs(each[name] - start[name]).sum() for each in (last, mean))
        assert mean_went > 0.05 * went
        assert np.abs(mean[name] - last[name]).max() > 1e-4


def test_mirrored_teachers_are_for_images() -> None:
    with pytest.raises(
        PassError, match=r"mirror_teacher: input 'x' \[8, 6\] is no batch of images"
    ):
        run(moved(perceptron()), tuned(mirror_teacher=True))


def test_features_named_are_matched() -> None:
    model = moved(perceptron())
    before = weights(model)
    context = RuntimeContext(samples(model)).with_original_model(perceptron())
    pass_ = tuned(outputs=0.0, features=1.0, tensors=("h",))
    report = PassManager([pass_]).run(model, context)[0]
    after = weights(model)
    assert {each for each in after if not np.array_equal(after[each], before[each])} == {"w1", "b1"}
    assert len(report.changes) == 3


def test_resnet_with_most_of_its_work_cut_by_taylor_keeps_more_than_by_chance() -> None:
    folder = SUBJECTS / "resnet20"
    if not (folder / "model.onnx").is_file():
        pytest.skip("resnet20 was not fetched: python -m benchmarks.subjects fetches it")
    session = Session(folder / "model.onnx")
    calibration = load_dataset(folder / "calibration.npz", session.inputs).take(range(200))
    with np.load(folder / "test.npz") as arrays:
        images, labels = arrays["input"][:1500], arrays["labels"][:1500]
    right: dict[Criterion, float] = {}
    for criterion in (Criterion.RANDOM, Criterion.TAYLOR):
        model = io.load(folder / "model.onnx")
        cut = onnxcompress.Recipe.parse(
            f'[[pass]]\nname="prune-channels"\ncriterion="{criterion.value}"\n'
            'amount=0.6\ntarget="macs"\nmultiple=4\n'
        ).passes[0]
        PassManager([cut, RefitWeights(), StripPruned()]).run(model, RuntimeContext(calibration))
        scores = Session(io.to_bytes(model)).run({"input": images})
        right[criterion] = float((next(iter(scores.values())).argmax(axis=1) == labels).mean())
    # 82.5 and 80.0 % here. The two differ on about a seventh of the images: one standard deviation
    # of the difference is a point.
    assert right[Criterion.TAYLOR] > right[Criterion.RANDOM] + 0.01
    assert right[Criterion.TAYLOR] > 0.8
