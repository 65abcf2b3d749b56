"""Distillation under the pass manager: students given, derived and drawn anew."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.distillation.initial import random_values
from onnxcompress.distillation.plan import OutputLoss
from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Override, Pass, PassReport
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import Distill, PruneChannels, PruneWeights, StripPruned
from onnxcompress.passes.distill import Start
from onnxcompress.runtime.context import RuntimeContext
from tests.distillation.models import FEATURES, perceptron, samples
from tests.helpers import ops, outputs
from tests.passes.support import model_of, normal, opset, stored, stored_input

pytestmark = pytest.mark.slow


def taught(**options: object) -> Distill:
    defaults = Distill(
        epochs=40, learning_rate=2e-2, batch_size=16, held_out=0.2, loss=OutputLoss.MSE
    )
    return dataclasses.replace(defaults, **options)  # type: ignore[arg-type]


def run(model: Model, *passes: Pass) -> list[PassReport]:
    return PassManager(passes).run(model, RuntimeContext(samples(model, 160)))


def error(model: Model, other: Model) -> float:
    """Squared error of outputs over their variance, on samples of neither training nor choice."""
    x = {"x": normal(200, FEATURES, seed=99)}
    wanted = outputs(other, x)["y"]
    return float(np.square(outputs(model, x)["y"] - wanted).mean() / wanted.var())


def narrow() -> Model:
    """A student of five hidden units."""
    return model_of(
        opset(17)
        + """
        student (float[n,6] x) => (float[n,3] y) {
            t = Gemm(x, u, c)
            s = Tanh(t)
            y = Gemm(s, v, d)
        }""",
        u=normal(6, 5, seed=31) * np.float32(0.1),
        c=np.zeros(5, np.float32),
        v=normal(5, 3, seed=32) * np.float32(0.1),
        d=np.zeros(3, np.float32),
    )


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("option", ["student", "teacher", "checkpoint"])
def test_files_lie_below_the_current_folder(option: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    io.save(perceptron(), tmp_path / "other.onnx")
    with contextlib.chdir(tmp_path / "inner"), pytest.raises(PassError, match="lies outside"):
        run(perceptron(), taught(**{option: "../other.onnx"}))


def test_a_student_file_takes_the_place_of_the_model(tmp_path: Path) -> None:
    teacher, model = perceptron(), perceptron()
    path = tmp_path / "student.onnx"
    io.save(narrow(), path)
    untaught = error(io.load(path), teacher)
    report = run(model, taught(student=str(path)))[0]
    assert ops(model) == ["Gemm", "Tanh", "Gemm"]
    assert {each.shape for each in stored(model).values()} == {(6, 5), (5,), (5, 3), (3,)}
    assert untaught > 0.9
    assert error(model, teacher) < 0.3
    assert report.changes[0].detail == f"the student {path}"
    assert error(io.load(path), teacher) == untaught  # the file is only read


def test_the_teacher_may_be_a_file(tmp_path: Path) -> None:
    other = perceptron(seed=20)
    path = tmp_path / "teacher.onnx"
    io.save(other, path)
    model = perceptron()
    before = error(model, other)
    run(model, taught(teacher=str(path)))
    assert error(model, other) < 0.3 * before


def test_a_student_derived_from_the_model_learns_from_it() -> None:
    teacher, model = perceptron(), perceptron()
    bare = clone(model)
    cut = (PruneChannels(amount=0.25, multiple=1), StripPruned())
    run(bare, *cut)
    run(model, *cut, taught())
    assert stored_input(model, "Gemm_a", 1).shape == (6, 6)
    assert error(model, teacher) < 0.8 * error(bare, teacher)


def test_weak_distillation_starts_from_nothing_of_the_teacher() -> None:
    drawn = []
    for seed in (0, 0, 1):
        model = perceptron()
        run(model, taught(start=Start.RANDOM, seed=seed, steps=0))
        drawn.append(stored(model))
    assert all(np.array_equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    start = stored(perceptron())
    for name in ("w1", "w2"):
        assert not np.isclose(drawn[0][name], start[name]).any()
        assert not np.isclose(drawn[0][name], drawn[2][name]).any()
    assert not drawn[0]["b1"].any()
    model = perceptron()
    run(model, taught(start=Start.RANDOM))
    assert error(model, perceptron()) < 0.4


def test_weak_distillation_does_not_keep_zeros() -> None:
    model = perceptron()
    run(model, PruneWeights(sparsity=0.5), taught(start=Start.RANDOM))
    assert stored_input(model, "Gemm_a", 1).all()
    strong = perceptron()
    run(strong, PruneWeights(sparsity=0.5), taught())
    assert (stored_input(strong, "Gemm_a", 1) == 0).mean() == 0.5


def test_strong_distillation_stays_near_where_it_started() -> None:
    start = stored(perceptron())

    def distance(**options: float) -> float:
        model = perceptron()
        run(model, taught(noise=0.5, **options))
        found = stored(model)
        return sum(float(np.square(found[name] - start[name]).sum()) for name in start)

    assert distance(pull=1.0) < 0.8 * distance()


def test_excluded_nodes_are_drawn_anew_neither() -> None:
    model = perceptron()
    report = run(model, taught(start=Start.RANDOM, overrides=(Override(None, nodes=("Gemm_a",)),)))[
        0
    ]
    assert np.array_equal(stored_input(model, "Gemm_a", 1), stored(perceptron())["w1"])
    assert not np.isclose(stored_input(model, "Gemm_z", 1), stored(perceptron())["w2"]).all()
    assert [skip.node for skip in report.skips] == ["Gemm_a"]


@pytest.mark.parametrize(
    ("student", "told"),
    [
        (
            "s (float[n,6] z) => (float[n,6] y) { y = Relu(z) }",
            "its inputs are z, and the model's x",
        ),
        (
            "s (float[n,6] x) => (float[n,6] q) { q = Relu(x) }",
            "its outputs are q, and the model's y",
        ),
        (
            "s (double[n,6] x) => (double[n,6] y) { y = Relu(x) }",
            "'x' is float64, in the model float32",
        ),
        (
            "s (float[n,6] x) => (float[n,6] y) { y = Relu(x) }",
            r"'y' is \['n', 6\], in the model \['n', 3\]",
        ),
    ],
)
def test_students_that_do_not_fit_are_refused(tmp_path: Path, student, told) -> None:
    path = tmp_path / "student.onnx"
    io.save(model_of(opset(17) + student), path)
    model = perceptron()
    with pytest.raises(PassError, match=told):
        run(model, Distill(student=str(path)))
    assert stored(model).keys() == stored(perceptron()).keys()  # rolled back


@pytest.mark.parametrize("option", ["pull", "noise"])
def test_negative_options_are_refused(option) -> None:
    with pytest.raises(RecipeError, match=f"{option}=-1.0 is out of range"):
        Distill(**{option: -1.0})


def test_random_weights_suit_what_they_are_for() -> None:
    model = model_of(
        opset(17)
        + """
        g (float[n,16,9,9] x, int64[n,5] i) => (float y, float z) <float[1] half = {0.5}> {
            c = Conv(x, w, b)
            k = BatchNormalization(c, gamma, beta, mean, var)
            r = PRelu(k, slope)
            y = ConvTranspose<strides = [2, 2]>(r, t)
            e = Gather(table, i)
            l = LayerNormalization(e, scale, shift)
            m = MatMul(l, p)
            s = Mul(m, factor)
            z = Add(s, bias)
        }""",
        w=normal(32, 16, 3, 3),
        b=normal(32),
        gamma=normal(32),
        beta=normal(32),
        mean=normal(32),
        var=np.abs(normal(32)),
        slope=normal(32, 1, 1),
        t=normal(32, 8, 4, 4),
        table=normal(100, 64),
        scale=normal(64),
        shift=normal(64),
        p=normal(64, 48),
        factor=normal(48),
        bias=normal(48),
    )
    found = {constant.name: values for constant, values in random_values(model, 0).items()}
    assert found.keys() == stored(model).keys() - {"half"}
    assert all(each.dtype == np.float32 for each in found.values())
    for name in ("gamma", "slope", "scale", "factor"):
        assert (found[name] == 1).all(), name
    for name in ("b", "beta", "shift", "bias"):
        assert not found[name].any(), name
    spreads = {
        "w": (2 / (16 * 9)) ** 0.5,
        "t": (2 / (32 * 16 / 4)) ** 0.5,
        "table": 0.02,
        "p": (2 / 64) ** 0.5,
    }
    for name, spread in spreads.items():
        assert found[name].std() == pytest.approx(spread, rel=0.06), name
        assert abs(found[name].mean()) < 0.06 * spread, name


def test_random_weights_come_without_the_statistics_of_the_old_ones() -> None:
    model = model_of(
        opset(17)
        + """m (float[n,2] x) => (float[n,2] y) {
            y = BatchNormalization(x, s, b, mean, variance)
        }""",
        s=np.array([3, 4], np.float32),
        b=np.array([1, 2], np.float32),
        mean=np.array([5, 6], np.float32),
        variance=np.array([7, 8], np.float32),
    )
    drawn = {constant.name: values for constant, values in random_values(model, 0).items()}
    assert {name: values.tolist() for name, values in drawn.items()} == {
        "s": [1, 1],
        "b": [0, 0],
        "mean": [0, 0],
        "variance": [1, 1],
    }
