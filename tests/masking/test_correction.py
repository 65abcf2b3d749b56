import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.masking import correction
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneWeights
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.passes.support import Array, model_of, normal, reasons, stored_input

X = (normal(40, 1) + normal(40, 8, seed=1) / 2).astype(np.float32)
PASS = PruneWeights(criterion=Criterion.SECOND_ORDER)


def _model() -> Model:
    return model_of(
        "g (float[N, 8] x) => (float[N, 4] y) { [a] h = MatMul(x, w)  [b] y = MatMul(h, v) }",
        w=normal(8, 12),
        v=normal(12, 4, seed=1),
    )


def _context(model: Model) -> RuntimeContext:
    return RuntimeContext(dataset_of({"x": X}, Session(io.to_bytes(model)).inputs))


def _pruned() -> tuple[Array, ...]:
    model = _model()
    PassManager([PASS]).run(model, _context(model))
    return tuple(stored_input(model, name, 1) for name in "ab")


@pytest.mark.parametrize("held", [0, 4 * 64, 1 << 20])
def test_compensations_that_were_not_held_are_found_again(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _pruned()
    monkeypatch.setattr(correction, "_BYTES_HELD", held)
    runs = []
    activations = RuntimeContext.activations
    monkeypatch.setattr(
        RuntimeContext, "activations", lambda *given: runs.append(0) or activations(*given)
    )
    for one, other in zip(expected, _pruned(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(runs) == (1 if held == 1 << 20 else 2)


def test_weights_of_too_many_features_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correction, "_MOST_FEATURES", 11)
    model = _model()
    (report,) = PassManager([PASS]).run(model, _context(model))
    assert reasons(report) == {"b": "12 features are too many for second-order, 11 fit"}
    assert np.count_nonzero(stored_input(model, "a", 1)) == 48
