import numpy as np
import pytest

from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.masking.ranking import Scope, masks, rank
from onnxcompress.masking.weights import PrunableWeight, prunable_weights
from onnxcompress.passes import PruneWeights
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.runtime.context import RuntimeContext
from tests.passes.support import Array, model_of, normal


def _model() -> Model:
    return model_of(
        """g (float[2, 4] x) => (float y, float z, float u) {
          [a] y = MatMul(x, small)  [b] z = MatMul(x, large)  [c] u = Gemm(x, head) }""",
        small=normal(4, 10, seed=1) / 100,
        large=normal(4, 10, seed=2),
        head=normal(4, 10, seed=3) / 100,
    )


def _weights(model: Model) -> list[PrunableWeight]:
    return [weight for weight, _ in prunable_weights(model, Editor(model), PruneWeights().at)]


def _no_skips(weight: PrunableWeight, reason: str) -> None:
    pytest.fail(f"{weight.constant.name}: {reason}")


def _ranked(criterion: Criterion, seed: int = 0) -> dict[PrunableWeight, Array]:
    model = _model()
    found = rank(criterion, model, _weights(model), RuntimeContext(), _no_skips, seed=seed)
    return dict(found.importances)


@pytest.mark.parametrize(
    ("scope", "comparable", "gone"),
    [
        (Scope.OUTPUT, True, (20, 20, 20)),
        (Scope.NODE, True, (20, 20, 20)),
        (Scope.OP_TYPE, False, (40, 0, 20)),
        (Scope.GLOBAL, False, None),
    ],
)
def test_what_a_scope_loses(scope: Scope, comparable: bool, gone: tuple[int, ...] | None) -> None:
    found = masks(_ranked(Criterion.L1), 0.5, scope, comparable=comparable)
    counts = tuple(np.count_nonzero(~mask) for mask in found.values())
    assert sum(counts) == 60
    if gone is not None:
        assert counts == gone
    else:
        assert counts[1] == 0
    if scope is Scope.OUTPUT:
        assert all((np.count_nonzero(~mask, axis=2) == 2).all() for mask in found.values())


def test_comparable_importances_spare_weights_that_are_small_throughout() -> None:
    found = masks(_ranked(Criterion.L2), 0.5, Scope.GLOBAL)
    counts = [np.count_nonzero(~mask) for mask in found.values()]
    assert sum(counts) == 60
    assert all(14 <= count <= 26 for count in counts)


def test_random_importances_differ_between_weights_but_not_between_runs() -> None:
    one, two, three = _ranked(Criterion.RANDOM).values()
    assert (one != two).all() and (two != three).all()
    np.testing.assert_array_equal(one, next(iter(_ranked(Criterion.RANDOM).values())))
    assert (one != next(iter(_ranked(Criterion.RANDOM, seed=1).values()))).all()


def test_importances_lie_like_views() -> None:
    found = {weight.constant.name: each for weight, each in _ranked(Criterion.L1).items()}
    np.testing.assert_array_equal(found["large"], np.abs(normal(4, 10, seed=2)).T[None])
