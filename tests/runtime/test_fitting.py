"""What judges a training is learnt from by nothing that runs before it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.distillation.plan import OutputLoss
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Context, Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import Distill, FineTune, SwapSubgraph
from onnxcompress.runtime import fitting
from onnxcompress.runtime.context import RuntimeContext
from tests.distillation.models import forward, moved, perceptron, samples
from tests.passes.support import stored

MODEL = perceptron()


class Looks(Pass):
    """Sees which samples passes are given."""

    name = "looks"
    seen: list[np.ndarray] = []  # noqa: RUF012

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        del edit
        node = model.graph.nodes[0]
        self.seen.append(np.concatenate([each["x"] for each in context.activations(model, ["x"])]))
        for most in (None, 45):
            pairs = context.paired_activations(model, model, most).batches(["x"], ["x"], node)
            self.seen.append(np.concatenate([each["x"] for each, _ in pairs]))


def values(data: Dataset) -> np.ndarray:
    return np.concatenate([batch.feeds["x"] for batch in data.batches(len(data))])


def among(some: np.ndarray, others: np.ndarray) -> int:
    """How many rows of one stand in the other."""
    return len({row.tobytes() for row in some} & {row.tobytes() for row in others})


def seen_by(passes: Sequence[Pass], context: RuntimeContext) -> list[np.ndarray]:
    Looks.seen.clear()
    PassManager([Looks(), *passes]).run(perceptron(), context)
    return Looks.seen[:3]


TRAINING: Mapping[str, Pass] = {
    "distill": Distill(epochs=0, held_out=0.3),
    "fine-tune": FineTune(epochs=0, held_out=0.3, seed=4),
    "swap-subgraph": SwapSubgraph(nodes="*", student="narrow", epochs=0),
}


@pytest.mark.parametrize("name", TRAINING)
def test_what_judges_a_training_is_in_no_data_of_other_passes(name: str) -> None:
    data = samples(MODEL, 100)
    context = RuntimeContext(data.take(range(20)), training=data)
    pass_ = TRAINING[name]
    held = values(data)[pass_.sets_aside(100, others=False)]
    assert len(held) == (10 if name == "swap-subgraph" else 30)
    calibrated, *_ = seen_by([], context)
    assert among(calibrated, held) > 0  # it was a danger
    context = context.setting_aside([pass_])
    calibrated, paired, more = seen_by([], context)
    assert [len(each) for each in (calibrated, paired, more)] == [20, 20, 45]
    for each in (calibrated, paired, more):
        assert among(each, held) == 0
    assert among(calibrated, values(data)[:20]) == 20 - among(held, values(data)[:20])


def test_the_manager_sets_them_aside() -> None:
    pytest.importorskip("torch")
    data = samples(MODEL, 100)
    pass_ = Distill(epochs=0, held_out=0.3)
    held = values(data)[pass_.sets_aside(100, others=False)]
    for each in seen_by([pass_], RuntimeContext(data.take(range(20)), training=data)):
        assert among(each, held) == 0


def test_all_that_fits_is_lessened_where_there_are_no_others() -> None:
    data = samples(MODEL, 20)
    pass_ = Distill(epochs=0)
    for context in (RuntimeContext(data), RuntimeContext(data, training=data)):
        for each in seen_by([], context.setting_aside([pass_])):
            assert len(each) == 18
            assert among(each, values(data)[pass_.sets_aside(20, others=False)]) == 0


def test_other_samples_than_those_trained_on_calibrate_as_they_are() -> None:
    data, training = samples(MODEL, 20), samples(MODEL, 60, seed=2)
    context = RuntimeContext(data, training=training).setting_aside([Distill(epochs=0)])
    assert context.data is data
    assert len(seen_by([], context)[2]) == 45


def test_more_is_taken_only_where_it_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    context = RuntimeContext(samples(MODEL, 20), training=samples(MODEL, 60, seed=2))
    monkeypatch.setattr(fitting, "KEPT_BYTES", 4 * 4 * 8 * 30)  # four times 8 floats, 30 times
    assert len(seen_by([], context)[2]) == 30
    monkeypatch.setattr(fitting, "KEPT_BYTES", 4 * 4 * 8 * 10)
    assert len(seen_by([], context)[2]) == 20


def test_samples_to_choose_by_judge_a_training_and_all_others_are_trained_on() -> None:
    pytest.importorskip("torch")
    data, choosing = samples(MODEL, 40), samples(MODEL, 12, seed=3)
    student, teacher = moved(MODEL), clone(MODEL)
    told = {}
    for share in (None, 0.25):
        context = RuntimeContext(data, choosing=choosing).with_original_model(teacher)
        pass_ = Distill(epochs=2, held_out=share, loss=OutputLoss.MSE)
        (report,) = PassManager([pass_]).run(clone(student), context)
        told[share] = next(each.detail for each in report.changes if each.op == "training")
    x = values(choosing)
    wanted = forward(stored(teacher), x)
    error = np.square(forward(stored(student), x) - wanted).mean() / wanted.var()
    assert f"loss on held-out samples {error:.4g} ->" in told[None]
    assert "(step 4 of 4)" in told[None]  # 40 samples in batches of 32
    assert "(step 2 of 2)" in told[0.25]
    assert f"{error:.4g} ->" not in told[0.25]
