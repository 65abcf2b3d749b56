from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of, load_dataset
from onnxcompress.errors import RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.masking.ranking import Scope
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneWeights, RegrowWeights
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session

from .support import Array, apply, model_of, normal, reasons, sqnr, stored_input

X = normal(30, 8) * np.arange(1, 9, dtype=np.float32)
W, V = normal(8, 10, seed=1), normal(4, 10, seed=2)
V[0] = 0


def _model() -> Model:
    return model_of(
        """g (float[N, 8] x) => (float[N, 4] y) {
          [first] h = MatMul(x, w)  [second] y = Gemm <transB = 1> (h, v) }""",
        w=W,
        v=V,
    )


def _context(model: Model) -> RuntimeContext:
    return RuntimeContext(dataset_of({"x": X}, Session(io.to_bytes(model)).inputs))


def _run(*passes: PruneWeights | RegrowWeights) -> tuple[Array, Array]:
    model = _model()
    PassManager(passes).run(model, _context(model))
    return stored_input(model, "first", 1), stored_input(model, "second", 1)


@pytest.mark.parametrize("criterion", [Criterion.L1, Criterion.L2])
def test_what_comes_back_is_what_a_lower_sparsity_would_have_kept(criterion: Criterion) -> None:
    expected = _run(PruneWeights(sparsity=0.5))
    found = _run(PruneWeights(sparsity=0.9), RegrowWeights(sparsity=0.5, criterion=criterion))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("scope", [Scope.OUTPUT, Scope.NODE, Scope.OP_TYPE, Scope.GLOBAL])
def test_zeros_are_the_share_that_is_asked_for(scope: Scope) -> None:
    found = _run(PruneWeights(sparsity=0.9, scope=scope), RegrowWeights(sparsity=0.6, scope=scope))
    expected = _run(PruneWeights(sparsity=0.6, scope=scope))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    zeros = sum(np.count_nonzero(each == 0) for each in found)
    assert zeros == 72 or scope is Scope.OUTPUT  # of 120, 10 of which were zero before


def test_the_weights_left_stay_as_they_are_now() -> None:
    pruned = _run(PruneWeights(sparsity=0.75, criterion=Criterion.SECOND_ORDER))
    found = _run(
        PruneWeights(sparsity=0.75, criterion=Criterion.SECOND_ORDER), RegrowWeights(sparsity=0.5)
    )
    for before, now, original in zip(pruned, found, (W, V), strict=True):
        np.testing.assert_array_equal(now[before != 0], before[before != 0])
        back = (before == 0) & (now != 0)
        np.testing.assert_array_equal(now[back], original[back])
        assert np.count_nonzero(now) == now.size // 2
        gone = np.abs(original[now == 0]).max()
        assert gone <= np.abs(original[back]).min()


def test_inputs_are_those_of_the_model_before_pruning() -> None:
    pruned = PruneWeights(sparsity=1.0, overrides=(Override(None, nodes=("second",)),))
    first, _ = _run(pruned, RegrowWeights(criterion=Criterion.WANDA))
    ranked = np.abs(W) * np.sqrt(np.square(X.astype(np.float64)).mean(0))[:, None]
    np.testing.assert_array_equal(first, np.where(ranked > np.sort(ranked.reshape(-1))[39], W, 0))
    # What the second node reads is zero throughout by then; before, it was not.
    _, second = _run(PruneWeights(sparsity=1.0), RegrowWeights(criterion=Criterion.WANDA))
    rms = np.sqrt(np.square(X.astype(np.float64) @ W).mean(0))
    ranked = np.abs(V) * rms
    np.testing.assert_array_equal(second, np.where(ranked > np.sort(ranked.reshape(-1))[19], V, 0))


def test_what_is_left_alone_is_told() -> None:
    told = (
        "no model from before pruning is known; put regrow-weights behind a pruning pass in one "
        "recipe"
    )
    assert reasons(apply(RegrowWeights(), _model())) == {"first": told, "second": told}
    model = _model()
    regrow = RegrowWeights(sparsity=0.5, overrides=(Override(None, nodes=("second",)),))
    report = PassManager([PruneWeights(sparsity=0.4), regrow]).run(model)[-1]
    assert not report.modified
    assert reasons(report) == {
        "first": "no weight that was taken has to come back",
        "second": EXCLUDED,
    }
    other = model_of(
        """g (float[N, 8] x) => (float[N, 4] y) {
          [first] h = MatMul(x, w)  [third] y = Gemm <transB = 1> (h, v) }""",
        w=normal(8, 12),
        v=normal(4, 12),
    )
    context = RuntimeContext(unpruned_model=_model())
    (report,) = PassManager([RegrowWeights(sparsity=0)]).run(other, context)
    assert set(reasons(report).values()) == {
        "the model from before pruning has no such weight of that shape"
    }
    assert len(report.skips) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("criterion=batchnorm", "criterion batchnorm does not rank single weights by itself"),
        ("criterion=given", "criterion given does not rank"),
        ("sparsity=-0.5", "sparsity must be from 0 to 1"),
        ("seed=-1", "seed at least 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(text: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        parse_pass(f"regrow-weights:{text}")


@pytest.mark.parametrize("subject", ["resnet20"], indirect=True)
def test_a_real_model_comes_nearer_to_what_it_was(subject: Path) -> None:
    original = Session(subject / "model.onnx")
    test = load_dataset(str(subject / "test.npz"), original.inputs)
    feeds = next(test.take(range(50)).batches(50)).feeds
    expected = next(iter(original.run(feeds).values()))
    noise = []
    for passes in (
        [PruneWeights(sparsity=0.8)],
        [PruneWeights(sparsity=0.8), RegrowWeights(sparsity=0.3)],
    ):
        model = io.load(subject / "model.onnx")
        report = PassManager(passes).run(model)[-1]
        assert len({change.node for change in report.changes if change.op != "initializer"}) == 20
        noise.append(sqnr(expected, next(iter(Session(io.to_bytes(model)).run(feeds).values()))))
    assert noise[1] > noise[0] + 8
