"""What a teacher is asked for, what is remembered of it, and when that would be wrong."""

import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.runtime import lessons as module
from onnxcompress.runtime.lessons import TaughtSamples
from onnxcompress.runtime.session import Session
from tests.distillation.models import perceptron, samples
from tests.helpers import outputs
from tests.passes.support import model_of, normal, opset


def told(lessons: TaughtSamples, order: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """The targets of real samples, in order."""
    found = list(lessons.batches(order, size))
    return {
        name: np.concatenate([each.targets[name][: each.count] for each in found])
        for name in found[0].targets
    }


def counted(lessons: TaughtSamples, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples the teacher was asked for each time."""
    asked: list[int] = []
    ask = lessons._asked

    def spy(feeds):
        asked.append(len(feeds["x"]))
        return ask(feeds)

    monkeypatch.setattr(lessons, "_asked", spy)
    return asked


@pytest.mark.parametrize(("batch", "size"), [("n", 8), ("4", 8), ("1", 8)])
def test_what_is_remembered_is_what_would_be_said_again(monkeypatch, batch, size) -> None:
    teacher = perceptron(batch=batch)
    data = samples(teacher, 22)
    lessons = TaughtSamples(data, teacher, ["y", "h"], {})
    asked = counted(lessons, monkeypatch)
    first = told(lessons, np.arange(22), size)
    once = len(asked)
    orders = [np.random.default_rng(seed).permutation(22) for seed in range(3)]
    for order in orders:
        again = told(lessons, order, size)
        free = TaughtSamples(data, teacher, ["y", "h"], {})
        anew = told(free, order, size)
        for name in ("y", "h"):
            assert np.array_equal(again[name], first[name][order]), name
            np.testing.assert_allclose(again[name], anew[name], rtol=1e-5, atol=1e-6)
    assert len(asked) == once  # nothing was asked for twice
    whole = perceptron()
    x = next(data.batches(22)).feeds["x"] if batch == "n" else normal(22, 6, seed=9)
    np.testing.assert_allclose(first["y"], outputs(whole, {"x": x})["y"], rtol=1e-5, atol=1e-6)


def test_students_of_a_part_are_fed_by_the_teacher() -> None:
    """Remembered feeds fill a fixed batch, as those of the data do."""
    teacher = perceptron(batch="4")
    lessons = TaughtSamples(samples(teacher, 10), teacher, ["z"], {"part": "h", "given": "x"})
    for _ in range(2):
        found = list(lessons.batches(np.arange(10), 4))
        assert [each.count for each in found] == [4, 4, 2]
        assert [each.filled for each in found] == [False, False, True]
        assert all(len(each.feeds["part"]) == len(each.feeds["given"]) == 4 for each in found)
        last = found[-1].feeds["part"]
        assert np.array_equal(last[1], last[2])
        assert np.array_equal(last[1], last[3])


def sideways() -> Model:
    """Its output's last axis counts samples, and its first has four numbers, always."""
    return model_of(
        opset(17) + "agraph (float[n,4] x) => (float[4,n] y) { y = Transpose<perm = [1, 0]>(x) }"
    )


def test_an_axis_as_long_as_the_batch_is_not_taken_for_it() -> None:
    teacher = sideways()
    x = normal(8, 4)
    data: Dataset = dataset_of({"x": x}, Session(io.to_bytes(teacher)).inputs)
    lessons = TaughtSamples(data, teacher, ["y"], {})
    for order in (np.arange(8), np.random.default_rng(1).permutation(8)):
        for number, lesson in enumerate(lessons.batches(order, 4)):
            rows = order[4 * number : 4 * number + 4]
            assert np.array_equal(lesson.targets["y"], x[rows].T)


def test_much_is_asked_for_again(monkeypatch) -> None:
    monkeypatch.setattr(module, "_KEPT_BYTES", 100)
    teacher = perceptron()
    lessons = TaughtSamples(samples(teacher, 12), teacher, ["y"], {})
    asked = counted(lessons, monkeypatch)
    first = told(lessons, np.arange(12), 6)
    once = len(asked)
    assert np.array_equal(told(lessons, np.arange(12), 6)["y"], first["y"])
    assert len(asked) == once + 2


def test_inputs_can_be_targets_and_nobody_may_teach() -> None:
    teacher = perceptron()
    data = samples(teacher, 5)
    (lesson,) = TaughtSamples(data, teacher, ["x"], {}).batches(np.arange(5), 8)
    assert np.array_equal(lesson.targets["x"], lesson.feeds["x"])
    (alone,) = TaughtSamples(data, None, [], {}).batches(np.arange(5), 8)
    assert alone.targets == {}
    assert np.array_equal(alone.feeds["x"], lesson.feeds["x"])


def test_fingerprints_differ_by_all_that_is_learnt_from() -> None:
    teacher = perceptron()
    data = samples(teacher)
    same = [TaughtSamples(data, perceptron(), ["y"], {}).fingerprint() for _ in range(2)]
    assert same[0] == same[1]
    others = {
        TaughtSamples(data, teacher, ["h"], {}).fingerprint(),
        TaughtSamples(data, teacher, ["y"], {"part": "h"}).fingerprint(),
        TaughtSamples(data, perceptron(seed=1), ["y"], {}).fingerprint(),
        TaughtSamples(data, None, [], {}).fingerprint(),
        TaughtSamples(samples(teacher, seed=1), teacher, ["y"], {}).fingerprint(),
    }
    assert len(others - {same[0]}) == 5


def test_labels_come_with_their_samples() -> None:
    teacher = perceptron()
    labels = np.arange(10)
    data = samples(teacher, 10, labels=labels)
    order = np.random.default_rng(0).permutation(10)
    found = [each.labels for each in TaughtSamples(data, teacher, ["y"], {}).batches(order, 4)]
    assert np.array_equal(np.concatenate(found), order)
