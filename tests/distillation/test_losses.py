"""Losses and penalties, beside the same formulas in numpy at float64."""

import numpy as np
import pytest
import torch

from onnxcompress.distillation.lessons import Lesson
from onnxcompress.distillation.losses import (
    Term,
    divergence,
    label_loss,
    real_rows,
    relative_error,
    terms_of,
    total,
)
from onnxcompress.distillation.parameters import find_parameters
from onnxcompress.distillation.penalties import penalty
from onnxcompress.distillation.plan import Match, Objective, OutputLoss, Penalty, Slices
from onnxcompress.errors import DataError
from tests.distillation.models import constant, perceptron
from tests.helpers import parse
from tests.passes.support import normal, stored

Array = np.ndarray


def log_softmax(x: Array) -> Array:
    shifted = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 7)])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence(shape, temperature) -> None:
    student, teacher = normal(*shape), normal(*shape, seed=1) * 3
    found = divergence(
        torch.from_numpy(student), torch.from_numpy(teacher), temperature, logarithm=False
    )
    p, q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    expected = (np.exp(p) * (p - q)).sum(axis=-1).mean() * temperature**2
    assert float(found) == pytest.approx(expected, rel=1e-5)
    of_probabilities = divergence(
        *(torch.from_numpy(np.exp(log_softmax(each))) for each in (student, teacher)),
        temperature,
        logarithm=True,
    )
    assert float(of_probabilities) == pytest.approx(expected, rel=1e-5)


def test_divergence_of_equals_is_zero_and_flat() -> None:
    scores = torch.from_numpy(normal(4, 5)).requires_grad_()
    loss = divergence(scores, scores.detach(), 2.0, logarithm=False)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-7)
    assert scores.grad is not None
    assert float(scores.grad.abs().max()) < 1e-7


def test_certain_probabilities_stay_finite() -> None:
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert torch.isfinite(divergence(certain, certain.flip(0), 2.0, logarithm=True))


def test_relative_error() -> None:
    student, teacher = normal(3, 4), normal(3, 4, seed=1)
    found = relative_error(*map(torch.from_numpy, (student, teacher)), torch.tensor(0.25))
    assert float(found) == pytest.approx(np.square(student - teacher).mean() / 0.25, rel=1e-6)


@pytest.mark.parametrize("shape", [(6, 4), (2, 5, 3)])
def test_cross_entropy(shape) -> None:
    scores = normal(*shape)
    labels = np.random.default_rng(2).integers(0, shape[-1], shape[:-1])
    expected = -np.take_along_axis(log_softmax(scores), labels[..., None], axis=-1)[..., 0]
    found = label_loss(torch.from_numpy(scores), torch.from_numpy(labels), logarithm=False)
    assert float(found) == pytest.approx(expected.mean(), rel=1e-5)
    chances = torch.from_numpy(np.exp(log_softmax(scores)))
    again = label_loss(chances, torch.from_numpy(labels.astype(np.int32)), logarithm=True)
    assert float(again) == pytest.approx(expected.mean(), rel=1e-5)
    flat = labels.reshape(-1).copy()
    flat[0] = -100
    rest = label_loss(
        torch.from_numpy(scores), torch.from_numpy(flat.reshape(labels.shape)), logarithm=False
    )
    assert float(rest) == pytest.approx(expected.reshape(-1)[1:].mean(), rel=1e-5)


def test_float_labels_are_squared() -> None:
    output, labels = normal(5, 2), normal(5, 2, seed=1, dtype=np.float64)
    found = label_loss(torch.from_numpy(output), torch.from_numpy(labels), logarithm=False)
    assert float(found) == pytest.approx(np.square(output - labels).mean(), rel=1e-5)


def test_labels_that_do_not_fit_are_refused() -> None:
    scores = torch.zeros(4, 3)
    for labels in (torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4), torch.zeros(3).long()):
        with pytest.raises(DataError, match="do not fit the first output"):
            label_loss(scores, labels, logarithm=False)


def test_parts_are_weighted_and_summed() -> None:
    found = {"a": torch.from_numpy(normal(3, 4)), "b": torch.from_numpy(normal(3, 2, seed=1))}
    targets = {
        "t": torch.from_numpy(normal(3, 4, seed=2)),
        "b": torch.from_numpy(normal(3, 2, seed=3)),
    }
    terms = [
        Term("a", "t", 2.0, OutputLoss.MSE),
        Term("b", "b", 0.5, OutputLoss.DIVERGENCE),
    ]
    value = total(terms, Objective(temperature=4.0), found, targets, {"t": torch.tensor(0.5)})
    expected = 2 * relative_error(found["a"], targets["t"], torch.tensor(0.5)) + 0.5 * divergence(
        found["b"], targets["b"], 4.0, logarithm=False
    )
    assert float(value) == pytest.approx(float(expected), rel=1e-6)


def test_outputs_are_compared_by_what_they_are() -> None:
    model = parse(
        """
        agraph (float[n,6] x) => (float[n,4] scores, float[n,4] chances, float[n,1] value,
                                  float[n,2,3] map, int64[n,1] best, float[n,4] squashed)
        <float[6,4] w = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23},
         float[6,1] v = {0,1,2,3,4,5}, float[4] b = {1,2,3,4}, int64[3] s = {-1,2,3}> {
            p = MatMul(x, w)
            scores = Add(p, b)
            chances = Softmax(scores)
            value = MatMul(x, v)
            map = Reshape(x, s)
            best = ArgMax(scores)
            squashed = Sigmoid(scores)
        }"""
    )
    terms = terms_of(Objective(outputs=3.0, matches=(Match("p", "q", 0.5),)), model)
    kind, mse = OutputLoss.DIVERGENCE, OutputLoss.MSE
    assert terms == [
        Term("scores", "scores", 3.0, kind),
        Term("chances", "chances", 3.0, kind, logarithm=True),
        Term("value", "value", 3.0, mse),
        Term("map", "map", 3.0, mse),
        Term("squashed", "squashed", 3.0, mse),
        Term("p", "q", 0.5, mse),
    ]
    assert {term.loss for term in terms_of(Objective(loss=mse), model)} == {mse}
    assert terms_of(Objective(outputs=0), model) == []


def test_only_copies_are_cut_off() -> None:
    tensor = torch.arange(12).reshape(4, 3)
    for count, filled, rows in ((3, True, 3), (3, False, 4), (4, False, 4)):
        lesson = Lesson(feeds={}, targets={}, labels=None, count=count, filled=filled)
        assert torch.equal(real_rows(tensor, lesson), tensor[:rows])
    assert real_rows(torch.tensor(1.0), lesson).ndim == 0


def test_penalties_are_their_formulas() -> None:
    model = perceptron()
    w1, b1, w2 = (constant(model, name) for name in ("w1", "b1", "w2"))
    weights = {name: each.astype(np.float64) for name, each in stored(model).items()}
    parameters, _ = find_parameters(model, torch.float32)
    units = np.array([0, 1, 2, -1, 3, 4, 0, -1])  # two hidden neurons are one unit, two are none
    slices = (Slices(w1, 1, units), Slices(b1, 0, units), Slices(w2, 0, units))
    asked = Penalty(l1=0.3, l2=0.7, group_lasso=1.1, weights=(w1, w2), slices=slices)
    both = np.concatenate([weights["w1"].ravel(), weights["w2"].ravel()])
    norms = []
    for unit in range(5):
        own = np.concatenate(
            [
                weights["w1"][:, units == unit].ravel(),
                weights["b1"][units == unit],
                weights["w2"][units == unit].ravel(),
            ]
        )
        norms.append(np.linalg.norm(own) / np.sqrt(own.size))
    parts = 0.3 * np.abs(both).mean(), 0.7 * np.square(both).mean(), 1.1 * np.mean(norms)
    value = penalty(asked, parameters)
    assert float(value.detach()) == pytest.approx(sum(parts), rel=1e-5)
    value.backward()
    assert all(each.master.grad is not None for each in parameters if each.constant in (w1, b1, w2))
    assert float(penalty(Penalty(), parameters)) == 0


def test_units_that_are_gone_have_a_gradient() -> None:
    """The root of a sum of squares has none at zero."""
    model = perceptron()
    weight = constant(model, "w1")
    weight.values = np.zeros_like(weight.values)
    parameters, _ = find_parameters(model, torch.float32)
    slices = (Slices(weight, 1, np.arange(8)),)
    penalty(Penalty(group_lasso=1.0, slices=slices), parameters).backward()
    (gradient,) = [each.master.grad for each in parameters if each.constant is weight]
    assert gradient is not None
    assert not gradient.any()
