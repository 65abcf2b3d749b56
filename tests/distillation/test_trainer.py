"""Training of small models: what it makes small, what it keeps, and how it ends."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from onnxcompress.data.loading import dataset_of
from onnxcompress.distillation.parameters import find_parameters
from onnxcompress.distillation.plan import Grid, Match, Objective, OutputLoss, Schedule, Training
from onnxcompress.distillation.trainer import Trainer, targets_of
from onnxcompress.errors import CheckpointError, DataError, ModelError
from onnxcompress.ir import io, query
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Tensor
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes.binarize_weights import BinarizeWeights
from onnxcompress.passes.quantize_static import QuantizeStatic
from onnxcompress.passes.ternarize_weights import TernarizeWeights
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.lessons import TaughtSamples
from onnxcompress.runtime.session import Session
from tests.architectures.export import Exports
from tests.architectures.specification import Architecture, Exporter
from tests.architectures.table import ARCHITECTURES
from tests.distillation.models import (
    Spied,
    by_name,
    constant,
    forward,
    moved,
    perceptron,
    put,
    samples,
    stored_bytes,
    train,
    unheard,
)
from tests.helpers import outputs
from tests.passes.support import model_of, normal, opset, stored

pytestmark = pytest.mark.slow

SHORT = Schedule(epochs=20, batch_size=8, learning_rate=1e-2, held_out=0.2)


def taught(**options: object) -> Training:
    """A student that is a bit off its teacher."""
    teacher = perceptron()
    found = Training(student=moved(teacher), teacher=teacher, schedule=SHORT)
    return dataclasses.replace(found, **options)  # type: ignore[arg-type]


def stored_scale(dequantized: Tensor) -> np.ndarray:
    """The scale of what a node reads."""
    source = query.producer(dequantized)
    assert source is not None
    scale = query.constant(source, 1)
    assert scale is not None
    return scale.values


def schedule(training: Training, **options: object) -> Training:
    """With another schedule."""
    changed = dataclasses.replace(training.schedule, **options)  # type: ignore[arg-type]
    return dataclasses.replace(training, schedule=changed)


def test_student_comes_near_its_teacher() -> None:
    training = taught(objective=Objective(loss=OutputLoss.MSE))
    data = samples(training.student)
    trained = train(training, data)
    assert trained.gained > 0.8
    assert trained.steps == 20 * 4
    assert trained.stopped == "all steps were done (step 80 of 80)"
    assert [each.step for each in trained.history] == list(range(0, 81, 4))
    assert trained.best == min(trained.history, key=lambda each: each.loss)
    assert trained.values.keys() == set(training.student.constants())
    assert training.teacher is not None
    x = normal(64, 6, seed=77)  # none of the samples
    wanted = outputs(training.teacher, {"x": x})["y"]
    before, after = (
        outputs(model, {"x": x})["y"]
        for model in (training.student, put(training.student, trained))
    )
    assert np.square(after - wanted).mean() < 0.25 * np.square(before - wanted).mean()


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_loss_told_is_the_objective_on_held_out_samples(average: float) -> None:
    training = schedule(taught(objective=Objective(loss=OutputLoss.MSE)), average=average)
    data = samples(training.student)
    trained = train(training, data)
    x = np.concatenate([batch.feeds["x"] for batch in data.batches(40)])
    held = np.random.default_rng([0, 0]).permutation(40)[:8]
    assert training.teacher is not None
    wanted = forward(stored(training.teacher), x[held])
    for weights, told in (
        (stored(training.student), trained.history[0].loss),
        (by_name(trained), trained.best.loss),
    ):
        error = np.square(forward(weights, x[held]) - wanted).mean() / wanted.var()
        assert told == pytest.approx(error, rel=1e-5)


def test_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    data = samples(perceptron())
    first = stored_bytes(train(taught(), data))
    assert stored_bytes(train(taught(), data)) == first
    assert stored_bytes(train(schedule(taught(), seed=1), data)) != first


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("batch", ["n", "4"])
@pytest.mark.parametrize("cut", [3, 8, 13])
def test_resumed_training_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, cut: int, batch: str, average: float
) -> None:
    teacher = perceptron(batch=batch)
    plan = Schedule(epochs=4, batch_size=8, learning_rate=1e-2, held_out=0.2)
    plan = dataclasses.replace(plan, evaluations=10**6, patience=10**6, average=average)
    training = Training(student=moved(teacher), teacher=teacher, schedule=plan, noise=0.1, pull=0.1)
    data = samples(teacher, 37)
    whole = train(training, data)
    resumable = schedule(training, checkpoint=tmp_path / "training.npz")

    def stop(done: int, total: int) -> None:
        if done == cut < total:
            raise KeyboardInterrupt

    cut_short = train(resumable, data, stop)
    assert cut_short.stopped == f"interrupted (step {cut} of {whole.steps})"
    resumed = train(resumable, data)
    assert stored_bytes(resumed) == stored_bytes(whole)
    assert [(e.step, e.loss) for e in resumed.history] == [(e.step, e.loss) for e in whole.history]
    again = train(resumable, data)  # nothing is left to do
    assert stored_bytes(again) == stored_bytes(whole)
    assert again.steps == whole.steps


def test_average_is_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "training.npz"
    trained = train(schedule(taught(), average=0.9, checkpoint=path), samples(perceptron(), 64))
    assert trained.best == trained.history[-1]
    with np.load(path) as arrays:
        for index, values in enumerate(by_name(trained).values()):
            np.testing.assert_array_equal(arrays[f"average_{index}"], values)
            assert np.abs(arrays[f"master_{index}"] - values).max() > 1e-6


def test_epochs_of_a_fixed_batch_are_whole() -> None:
    """Where the model fixes the batch, a round takes as many steps as it has batches."""
    teacher = perceptron(batch="4")
    training = taught(student=moved(teacher), teacher=teacher)
    training = schedule(training, epochs=3, batch_size=32, patience=100)
    lessons = Spied(
        TaughtSamples(samples(teacher, 37), teacher, targets_of(training), training.inputs)
    )
    trained = Trainer(training, lessons, unheard).run()
    assert trained.steps == 3 * 8  # 30 samples of 37 in batches of 4
    assert set(np.bincount(lessons.stepped)) == {0, 3}
    assert len(lessons.stepped) == 3 * 30


def test_copies_that_fill_a_batch_count_for_nothing() -> None:
    """A fixed batch gives the same losses as a free one on the same samples."""
    plans = Schedule(steps=0, held_out=0.35)
    losses = []
    for batch in ("n", "4", "1"):
        teacher = perceptron(batch=batch)
        training = Training(student=moved(teacher), teacher=teacher, schedule=plans)
        losses.append(train(training, samples(teacher, 20)).history[0].loss)
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)


def test_held_out_samples_are_never_trained_on() -> None:
    training = taught()
    lessons = Spied(
        TaughtSamples(samples(training.student), training.teacher, targets_of(training), {})
    )
    Trainer(training, lessons, unheard).run()
    assert len(set(lessons.looked)) == 8
    assert len(set(lessons.stepped)) == 32
    assert not set(lessons.looked) & set(lessons.stepped)


def test_time_limit_ends_it() -> None:
    trained = train(schedule(taught(), epochs=10**6, time_limit=0.3), samples(perceptron()))
    assert trained.stopped.startswith("time_limit=0.3 seconds were over (step ")
    assert 0 < trained.steps < 10**6
    assert trained.history[-1].step == trained.steps


def test_patience_ends_it() -> None:
    """Weights that are right from the start cannot become better."""
    teacher = perceptron()
    training = Training(
        student=teacher,
        teacher=teacher,
        schedule=dataclasses.replace(SHORT, epochs=500, patience=3, evaluations=2000),
        pull=1e-6,
        noise=0.0,
        objective=Objective(loss=OutputLoss.MSE),
    )
    trained = train(training, samples(teacher))
    assert trained.values == {}
    assert trained.best.step == 0
    assert trained.stopped.startswith("no better moment in 3 evaluations (step ")
    losses = [each.loss for each in trained.history[1:]]
    assert len(losses) == int(np.argmin(losses)) + 1 + 3


def test_interrupt_keeps_the_best_so_far() -> None:
    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done == 41 and len(told) == 41:
            raise KeyboardInterrupt

    told: list[tuple[int, int]] = []
    trained = train(taught(), samples(perceptron()), stop)
    assert trained.stopped == "interrupted (step 41 of 80)"
    assert trained.gained > 0.3
    assert told == [*((step, 80) for step in range(1, 42)), (80, 80)]
    whole = train(taught(), samples(perceptron()))
    earlier = [each for each in whole.history if each.step <= 40]
    assert trained.best.loss == min(each.loss for each in earlier)
    assert trained.best.step == earlier[int(np.argmin([each.loss for each in earlier]))].step


def test_best_moment_is_kept_not_the_last() -> None:
    training = schedule(taught(), learning_rate=0.5, epochs=5)
    trained = train(training, samples(perceptron()))
    assert trained.best.loss == min(each.loss for each in trained.history)
    again = train(
        dataclasses.replace(
            training,
            student=put(training.student, trained),
            schedule=Schedule(steps=0, held_out=0.2),
        ),
        samples(perceptron()),
    )
    assert again.history[0].loss == pytest.approx(trained.best.loss, rel=1e-6)


def test_masks_are_kept_to_the_last_bit() -> None:
    training = taught()
    weight = constant(training.student, "w1")
    mask = np.random.default_rng(0).random(weight.shape) < 0.5
    weight.values = np.where(mask, weight.values, np.float32(0))
    trained = train(
        dataclasses.replace(training, masks={weight: mask}, noise=0.2), samples(perceptron())
    )
    found = by_name(trained)["w1"]
    assert np.array_equal(found != 0, mask)
    assert not np.array_equal(found[mask], weight.values[mask])


def test_frozen_tensors_keep_their_values() -> None:
    training = taught()
    frozen = frozenset({constant(training.student, "w1"), constant(training.student, "b2")})
    trained = train(dataclasses.replace(training, frozen=frozen), samples(perceptron()))
    assert by_name(trained).keys() == {"b1", "w2"}
    assert set(trained.left.values()) == {"'w1' is left as it is", "'b2' is left as it is"}


@pytest.mark.parametrize(
    ("grid", "pass_", "levels"),
    [(Grid.BINARY, BinarizeWeights(), 2), (Grid.TERNARY, TernarizeWeights(), 3)],
    ids=["binary", "ternary"],
)
def test_weights_on_a_grid_are_stored_without_loss(grid, pass_, levels) -> None:
    training = schedule(taught(), epochs=30)
    weight = constant(training.student, "w1")
    trained = train(dataclasses.replace(training, grids={weight: grid}), samples(perceptron()))
    assert trained.best.step > 0
    assert trained.gained > 0.2
    found = by_name(trained)["w1"]
    for column in found.T:  # an output channel each
        factors = set(np.abs(column)) - {0}
        assert len(factors) == 1
        assert set(column) <= {factor * sign for factor in factors for sign in (-1, 0, 1)}
        assert len(set(column)) <= levels
    result = put(training.student, trained)
    x = normal(20, 6, seed=5)
    before = outputs(result, {"x": x})["y"]
    PassManager([dataclasses.replace(pass_, min_elements=1)]).run(result)
    assert "w1" not in {each.name for each in result.constants() if each.dtype == np.float32}
    only = outputs(put(training.student, trained), {"x": x})["y"]
    assert np.array_equal(only, before)
    kept = [each for each in result.constants() if each.name == "w2"]
    if kept:  # w2 is not on the grid, so it is compared only where the pass left it
        np.testing.assert_allclose(outputs(result, {"x": x})["y"], before, rtol=1e-5, atol=1e-6)


def test_scales_are_learnt_stay_positive_and_biases_follow_them() -> None:
    teacher = perceptron()
    data = samples(teacher, 64)
    student = moved(teacher, 0.1)
    PassManager([QuantizeStatic()]).run(student, RuntimeContext(data))
    before = {name: each for name, each in stored(student).items() if each.dtype == np.float32}
    training = Training(
        student=student,
        teacher=teacher,
        schedule=dataclasses.replace(SHORT, learning_rate=3e-3, epochs=30),
        objective=Objective(loss=OutputLoss.MSE),
        learn_scales=True,
    )
    trained = train(training, data)
    assert trained.gained > 0.3
    result = put(student, trained)
    scales = {name: each for name, each in stored(result).items() if name in before}
    assert sum(not np.array_equal(scales[name], before[name]) for name in before) >= len(before) - 1
    assert all((each > 0).all() for each in scales.values())
    for node in result.graph.nodes:
        if node.op != "Gemm":
            continue
        x_scale, w_scale, b_scale = (stored_scale(each) for each in node.inputs)
        np.testing.assert_allclose(b_scale, x_scale * w_scale, rtol=1e-6)


def test_pull_keeps_weights_near_and_noise_moves_them() -> None:
    data = samples(perceptron())
    start = stored(taught().student)

    def distance(**options: object) -> float:
        trained = train(taught(**options), data)
        found = {**start, **by_name(trained)}
        return sum(float(np.square(found[name] - start[name]).sum()) for name in start)

    free = distance()
    assert distance(pull=0.01) < free
    assert distance(pull=10.0) < 0.5 * free
    quiet = train(schedule(taught(), steps=0), data)
    loud = train(schedule(taught(noise=0.1), steps=0), data)
    assert quiet.values == {}
    shares = [
        float((values - start[name]).std() / start[name].std())
        for name, values in by_name(loud).items()
        if values.size > 20
    ]
    assert len(shares) == 2
    assert shares == pytest.approx([0.1, 0.1], rel=0.35)


def test_inner_tensors_are_matched() -> None:
    training = taught(objective=Objective(outputs=0, matches=(Match("h", "h", 2.0),)))
    trained = train(training, samples(perceptron()))
    assert by_name(trained).keys() == {"w1", "b1"}
    assert trained.gained > 0.6


def test_labels_alone_need_no_teacher() -> None:
    teacher = perceptron(seed=3)
    x = normal(200, 6, seed=9)
    labels = forward(stored(teacher), x).argmax(axis=1)
    training = Training(
        student=perceptron(),
        teacher=None,
        objective=Objective(outputs=0, labels=1.0),
        schedule=dataclasses.replace(SHORT, epochs=30),
    )
    data = samples(teacher, 200, labels=labels)
    trained = train(training, data)
    found = forward(by_name(trained), x).argmax(axis=1)
    assert (found == labels).mean() > 0.9
    assert (forward(stored(perceptron()), x).argmax(axis=1) == labels).mean() < 0.6


@pytest.mark.parametrize("objective", [Objective(outputs=0, labels=1.0), Objective(labels=1.0)])
def test_probabilities_are_compared_with_labels_as_such(objective) -> None:
    """The model may end in a Softmax; the loss is still the cross entropy."""
    ending = "Softmax <axis = -1> (z)"
    labels = np.random.default_rng(0).integers(0, 3, 20)
    student = perceptron(ending=ending)
    training = Training(
        student=student,
        teacher=student,
        objective=objective,
        schedule=Schedule(steps=0, held_out=0.5),
    )
    told = train(training, samples(student, 20, labels=labels)).history[0].loss
    held = np.random.default_rng([0, 0]).permutation(20)[:10]
    scores = forward(stored(student), normal(20, 6, seed=9)[held])
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    assert told == pytest.approx(-logs[np.arange(10), labels[held]].mean(), rel=1e-5)


def test_labels_asked_for_without_labels_are_refused() -> None:
    training = taught(objective=Objective(labels=0.5))
    with pytest.raises(DataError, match=r"labels=0\.5 asks for labels and the data have none"):
        train(training, samples(perceptron()))


def test_one_sample_is_too_few() -> None:
    with pytest.raises(DataError, match="at least 2 samples, not 1"):
        train(taught(), samples(perceptron(), 1))


def test_a_model_without_weights_is_refused() -> None:
    model = model_of(opset(17) + "agraph (float[n,6] x) => (float[n,6] y) { y = Relu(x) }")
    with pytest.raises(ModelError, match="no weights to train"):
        train(Training(student=model, teacher=model), samples(model))


def test_a_rate_that_makes_the_loss_infinite_is_told() -> None:
    training = schedule(taught(objective=Objective(loss=OutputLoss.MSE)), learning_rate=1e30)
    trained = train(training, samples(perceptron()))
    assert trained.stopped.startswith("the loss was not finite: use a learning_rate below 1e+30")
    assert trained.best == trained.history[0]
    assert not trained.values  # what there was before is kept


def test_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.npz"
    data = samples(perceptron())
    training = schedule(taught(), checkpoint=path, epochs=2)
    train(training, data)
    others = [
        schedule(training, seed=1),
        schedule(training, epochs=3),
        schedule(training, average=0.5),
        dataclasses.replace(training, noise=0.1),
        dataclasses.replace(training, objective=Objective(temperature=3.0)),
        dataclasses.replace(training, student=moved(perceptron(), seed=1)),
        dataclasses.replace(training, teacher=perceptron(seed=8)),
        dataclasses.replace(training, student=perceptron(ending="Sigmoid(z)")),
    ]
    for other in others:
        with pytest.raises(CheckpointError, match="belongs to another training"):
            train(other, data)
    with pytest.raises(CheckpointError, match="belongs to another training"):
        train(training, samples(perceptron(), seed=1))


@pytest.mark.parametrize("damage", ["cut", "text", "pickled", "missing", "nan", "shape", "long"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, damage) -> None:
    path = tmp_path / "training.npz"
    data = samples(perceptron())
    training = schedule(taught(), checkpoint=path, epochs=2)
    train(training, data)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "pickled":
        np.savez(path, question=np.array([{}], object))
    else:
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in arrays if name != "best_1"}
            best = arrays["best_1"]
        changed = {"nan": best * np.nan, "shape": best[..., None], "long": np.zeros(1 << 20)}
        if damage in changed:
            kept["best_1"] = changed[damage]
        np.savez(path, **kept)
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        train(training, data)
    assert list(tmp_path.iterdir()) == [path]


EXPORTED = [
    each
    for each in ARCHITECTURES
    if each.name in ("mobilenet-v3", "vit", "bert", "bidirectional-lstm", "gru", "convnext")
]


@pytest.mark.parametrize("architecture", EXPORTED, ids=lambda each: each.name)
def test_exported_models_learn(architecture: Architecture, exports: Exports) -> None:
    teacher = io.load(exports.path(architecture, Exporter.TRACED))
    student = clone(teacher)
    for index, parameter in enumerate(find_parameters(student, torch.float32)[0]):
        values = parameter.constant.values
        noise = normal(*values.shape, seed=index) * np.float32(0.3 * values.std())
        parameter.constant.values = values + noise
    session = Session(io.to_bytes(teacher))
    data = dataset_of(architecture.feeds(40, sequence=8, seed=1), session.inputs)
    plan = Schedule(epochs=20, batch_size=4, learning_rate=3e-3, patience=100, held_out=0.2)
    trained = train(Training(student=student, teacher=teacher, schedule=plan), data)
    assert trained.steps == 160
    assert trained.gained > 0.2
    result = put(student, trained)
    feeds = {**architecture.feeds(3, sequence=5, seed=2)}
    assert outputs(result, feeds).keys() == outputs(teacher, feeds).keys()
