"""Importances that go by gradients, beside numbers from a network written by hand in torch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from onnxcompress.channels.groups import find_groups
from onnxcompress.channels.importance import removals
from onnxcompress.data.dataset import Dataset
from onnxcompress.distillation.plan import GradientsOf
from onnxcompress.errors import DataError
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.masking.ranking import rank
from onnxcompress.masking.weights import PrunableWeight, prunable_weights
from onnxcompress.passes import PruneWeights
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.runtime.context import RuntimeContext
from tests.distillation.models import CLASSES, HIDDEN, perceptron, samples
from tests.passes.support import Array, normal, stored

SAMPLES, TOGETHER = 10, 4
LABELS = np.random.default_rng(0).integers(0, CLASSES, SAMPLES)
GRADIENT_CRITERIA = [Criterion.GRADIENT, Criterion.TAYLOR, Criterion.FISHER]
Loss = Callable[[torch.Tensor, int], torch.Tensor]


def data(model: Model, *, labelled: bool = True) -> Dataset:
    return samples(model, SAMPLES, labels=LABELS if labelled else None)


def by_labels(seed: int) -> Loss:
    del seed  # nothing is drawn
    labels = torch.from_numpy(LABELS)
    return lambda z, start: functional.cross_entropy(z, labels[start : start + TOGETHER])


def by_drawn_classes(seed: int) -> Loss:
    generator = torch.Generator().manual_seed(seed)

    def loss(z: torch.Tensor, start: int) -> torch.Tensor:
        del start
        drawn = torch.multinomial(torch.softmax(z.detach(), 1), 1, generator=generator)
        return functional.cross_entropy(z, drawn[:, 0])

    return loss


def by_signs(seed: int) -> Loss:
    """For outputs that are no scores: here a Tanh of them."""
    generator = torch.Generator().manual_seed(seed)

    def loss(z: torch.Tensor, start: int) -> torch.Tensor:
        del start
        y = torch.tanh(z)
        signs = torch.randint(0, 2, y.shape, generator=generator, dtype=y.dtype) * 2 - 1
        return (y * signs).sum() / y.numel() ** 0.5

    return loss


def gradients_by_hand(model: Model, loss: Loss) -> list[dict[str, Array]]:
    """Of each batch."""
    weights = {name: torch.tensor(each, requires_grad=True) for name, each in stored(model).items()}
    x = torch.from_numpy(normal(SAMPLES, 6, seed=9))
    found = []
    for start in range(0, SAMPLES, TOGETHER):
        hidden = torch.relu(x[start : start + TOGETHER] @ weights["w1"] + weights["b1"])
        value = loss(hidden @ weights["w2"] + weights["b2"], start)
        slopes = torch.autograd.grad(value, list(weights.values()))
        found.append({name: each.numpy() for name, each in zip(weights, slopes, strict=True)})
    return found


def prunable(model: Model) -> list[PrunableWeight]:
    return [each for each, _ in prunable_weights(model, Editor(model), PruneWeights().at)]


CASES = [
    (GradientsOf.LABELS, "Identity(z)", by_labels),
    (GradientsOf.OUTPUTS, "Identity(z)", by_drawn_classes),
    (GradientsOf.OUTPUTS, "Softmax<axis = 1>(z)", by_drawn_classes),
    (GradientsOf.LABELS, "Softmax<axis = 1>(z)", by_labels),
    (GradientsOf.OUTPUTS, "Tanh(z)", by_signs),
]
IDS = ["labels", "outputs", "outputs-softmax", "labels-softmax", "outputs-tanh"]


@pytest.mark.parametrize("criterion", GRADIENT_CRITERIA, ids=lambda each: each.value)
@pytest.mark.parametrize(("of", "ending", "loss_of"), CASES, ids=IDS)
def test_importance_of_each_weight(criterion, of, ending, loss_of) -> None:
    model = perceptron(ending=ending)
    weights = {each.constant.name: each for each in prunable(model)}
    context = RuntimeContext(data(model))
    refused: list[str] = []
    ranked = rank(
        criterion,
        model,
        weights.values(),
        context,
        lambda _, reason: refused.append(reason),
        seed=3,
        gradients_of=of,
    ).importances
    assert refused == []
    batches = gradients_by_hand(model, loss_of(3))
    for name in ("w1", "w2"):
        value = stored(model)[name]
        own = [each[name].astype(np.float64) for each in batches]
        expected = {
            Criterion.GRADIENT: np.mean([np.abs(g) for g in own], axis=0),
            Criterion.TAYLOR: np.mean([np.abs(g * value) for g in own], axis=0),
            Criterion.FISHER: np.mean([np.square(g * value) for g in own], axis=0),
        }[criterion]
        np.testing.assert_allclose(
            ranked[weights[name]][0], expected.T, rtol=1e-3, atol=1e-5 * expected.max()
        )


@pytest.mark.parametrize("criterion", GRADIENT_CRITERIA, ids=lambda each: each.value)
@pytest.mark.parametrize(("of", "ending", "loss_of"), CASES[:2], ids=IDS[:2])
def test_importance_of_each_unit(criterion, of, ending, loss_of) -> None:
    """What goes with a hidden neuron is summed before its size counts: changes cancel out."""
    model = perceptron(ending=ending)
    context = RuntimeContext(data(model))
    groups = find_groups(model, context)
    (group,) = groups.groups
    assert len(group) == HIDDEN
    found = removals(
        criterion,
        model,
        groups,
        context,
        lambda _, reason: pytest.fail(reason),
        seed=3,
        gradients_of=of,
        weights=prunable(model),
        steps={group: 1},
    )[group]
    batches = gradients_by_hand(model, loss_of(3))
    w1, w2 = stored(model)["w1"], stored(model)["w2"]
    changes = np.array(
        [(each["w1"] * w1).sum(axis=0) + (each["w2"] * w2).sum(axis=1) for each in batches]
    )
    magnitudes = np.array(
        [np.abs(each["w1"]).sum(axis=0) + np.abs(each["w2"]).sum(axis=1) for each in batches]
    )
    expected = {
        Criterion.GRADIENT: magnitudes.mean(axis=0),
        Criterion.TAYLOR: np.abs(changes).mean(axis=0),
        Criterion.FISHER: np.square(changes).mean(axis=0),
    }[criterion]
    order = np.argsort(expected, kind="stable")
    assert found.order.tolist() == order.tolist()
    np.testing.assert_allclose(
        found.costs / found.costs.sum(), expected[order] / expected.sum(), rtol=1e-3, atol=1e-6
    )


def test_draws_differ_by_seed_and_are_the_same_for_one() -> None:
    model = perceptron()
    weights = prunable(model)

    def ranked(seed: int) -> Array:
        found = rank(
            Criterion.FISHER,
            model,
            weights,
            RuntimeContext(data(model)),
            lambda _, reason: pytest.fail(reason),
            seed=seed,
        )
        return found.importances[weights[0]]

    assert np.array_equal(ranked(0), ranked(0))
    assert not np.array_equal(ranked(0), ranked(1))


def test_labels_are_asked_for_in_vain() -> None:
    model = perceptron()
    context = RuntimeContext(data(model, labelled=False))
    with pytest.raises(DataError, match="gradients of labels need data with labels"):
        rank(
            Criterion.TAYLOR,
            model,
            prunable(model),
            context,
            lambda *_: None,
            gradients_of=GradientsOf.LABELS,
        )


def test_weights_of_another_type_are_refused() -> None:
    model = perceptron()
    weights, context = prunable(model), RuntimeContext(data(model))
    weights[0].constant.values = weights[0].constant.values.astype(np.float64)
    refused: list[str] = []
    ranked = rank(
        Criterion.TAYLOR,
        model,
        weights[:1],
        context,
        lambda _, reason: refused.append(reason),
    )
    assert refused == ["taylor needs its gradients: 'w1' is float64; float32 is needed"]
    assert len(ranked.importances) == 0
