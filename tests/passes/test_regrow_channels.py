from pathlib import Path

import numpy as np
import pytest

import onnxcompress
from onnxcompress import Iteration, Recipe
from onnxcompress.channels.costs import Measure
from onnxcompress.channels.selection import Scope
from onnxcompress.data.loading import dataset_of, load_dataset
from onnxcompress.errors import RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override, Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneChannels, RefitWeights, RegrowChannels, StripPruned
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session

from .support import Array, apply, model_of, normal, reasons, sqnr, stored, stored_input

X = normal(50, 6)
U, B, V, C, W = (
    normal(6, 16),
    normal(16, seed=1),
    normal(16, 12, seed=2),
    normal(12, seed=3),
    normal(12, 3, seed=4),
)


def _model() -> Model:
    """Two groups: 16 neurons of `first`, 12 of `second`."""
    return model_of(
        """g (float[N, 6] x) => (float[N, 3] y) {
          [first] h = Gemm(x, u, b)  r = Relu(h)  [second] k = Gemm(r, v, c)  s = Relu(k)
          [third] y = MatMul(s, w) }""",
        u=U,
        b=B,
        v=V,
        c=C,
        w=W,
    )


_PLACES = (("first", 1), ("first", 2), ("second", 1), ("second", 2), ("third", 1))


def _run(*passes: Pass) -> list[Array]:
    model = _model()
    data = dataset_of({"x": X}, Session(io.to_bytes(model)).inputs)
    PassManager(passes).run(model, RuntimeContext(data))
    return [stored_input(model, *place) for place in _PLACES]


def _gone(weights: list[Array]) -> tuple[list[int], list[int]]:
    u, b, v, c, w = weights
    first = np.flatnonzero(~u.any(axis=0))
    second = np.flatnonzero(~w.any(axis=1))
    assert not b[first].any() and not v[first].any()
    assert not v[:, second].any() and not c[second].any()
    return first.tolist(), second.tolist()


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("target", [Measure.UNITS, Measure.MACS, Measure.PARAMETERS])
@pytest.mark.parametrize("criterion", [Criterion.L2, Criterion.SECOND_ORDER])
def test_what_comes_back_is_what_a_smaller_amount_would_have_kept(
    scope: Scope, target: Measure, criterion: Criterion
) -> None:
    options = {"scope": scope, "target": target, "multiple": 1, "criterion": criterion}
    expected = _run(PruneChannels(amount=0.3, **options))
    found = _run(PruneChannels(amount=0.6, **options), RegrowChannels(amount=0.3, **options))
    assert len(_gone(_run(PruneChannels(amount=0.6, **options)))[0]) > len(_gone(found)[0]) > 0
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_most_important_come_back_and_what_stays_stays() -> None:
    pruned = [PruneChannels(amount=0.5, criterion=Criterion.RANDOM, multiple=1), RefitWeights()]
    before = _run(*pruned)
    found = _run(*pruned, RegrowChannels(amount=0.25, multiple=1))
    size = np.square(U).sum(0) + np.square(B) + np.square(V).sum(1)
    gone, now = _gone(before)[0], _gone(found)[0]
    assert (len(gone), len(now)) == (8, 4)
    assert now == sorted(sorted(gone, key=lambda each: size[each])[:4])
    back, kept = sorted(set(gone) - set(now)), sorted(set(range(16)) - set(gone))
    np.testing.assert_array_equal(found[0][:, back], U[:, back])
    np.testing.assert_array_equal(found[1][back], B[back])
    np.testing.assert_array_equal(found[0][:, kept], before[0][:, kept])
    # A row that comes back crosses columns of the second group, some of which stay away.
    away = _gone(found)[1]
    assert 0 < len(away) < len(_gone(before)[1])
    mask = np.ones(12, bool)
    mask[away] = False
    np.testing.assert_array_equal(found[2][back], V[back] * mask)


def test_all_come_back_and_nothing_is_left_of_the_mask() -> None:
    found = _run(PruneChannels(amount=0.5, multiple=1), RegrowChannels(amount=0, multiple=1))
    for one, other in zip(found, (U, B, V, C, W), strict=True):
        np.testing.assert_array_equal(one, other)


def test_widths_stay_multiples() -> None:
    pruned = PruneChannels(amount=0.75, multiple=4)
    regrow = RegrowChannels(amount=0.3, multiple=4)
    assert list(map(len, _gone(_run(pruned)))) == [12, 8]
    assert list(map(len, _gone(_run(pruned, regrow)))) == [4, 0]  # 4 of 12 would be a third


def test_what_is_left_alone_is_told() -> None:
    told = (
        "no model from before pruning is known; put regrow-channels behind a pruning pass in one "
        "recipe"
    )
    results = {"third": "3 channels stay: 'y' is an output of the model"}
    found = reasons(apply(RegrowChannels(), _model()))
    assert found == {"first": told, "second": told, **results}
    pruned = PruneChannels(amount=0.5, multiple=1, overrides=(Override(None, nodes=("third",)),))
    report = PassManager([pruned, RegrowChannels(amount=0.5)]).run(_model())[-1]
    assert not report.modified
    assert reasons(report) == {
        "first": "no unit that was taken has to come back",
        "second": "none of its units was taken",
        **results,
    }
    spared = RegrowChannels(amount=0.1, overrides=(Override(None, nodes=("first",)),))
    report = PassManager([PruneChannels(amount=0.5, multiple=1), spared]).run(_model())[-1]
    assert reasons(report)["first"] == EXCLUDED
    report = PassManager([PruneChannels(multiple=1), StripPruned(), RegrowChannels()]).run(
        _model()
    )[-1]
    told = "the model from before pruning has other shapes: regrow before strip-pruned"
    assert reasons(report) == {"first": told, "second": told, **results}


def test_a_second_run_changes_nothing() -> None:
    model, original = _model(), _model()
    PassManager([PruneChannels(amount=0.6, multiple=1)]).run(model)
    context = RuntimeContext(unpruned_model=original)
    regrow = RegrowChannels(amount=0.3, multiple=1)
    assert PassManager([regrow]).run(model, context)[0].modified
    before = stored(model)
    assert not PassManager([regrow]).run(model, context)[0].modified
    assert stored(model).keys() == before.keys()


@pytest.mark.slow
def test_in_rounds_each_brings_back_its_share(tmp_path: Path) -> None:
    source, data, result = tmp_path / "m.onnx", tmp_path / "x.npz", tmp_path / "small.onnx"
    io.save(_model(), source)
    np.savez(data, x=normal(80, 6, seed=7))
    regrow = RegrowChannels(amount=0.25, multiple=1)
    passes = [PruneChannels(amount=0.5, multiple=1), regrow, RefitWeights(), StripPruned()]
    report = onnxcompress.compress(
        source,
        result,
        data=str(data),
        max_drop=np.inf,
        recipe=Recipe.of(passes),
        iteration=Iteration(rounds=2, checkpoints=tmp_path / "rounds"),
    )
    assert report.kept_round == 2
    widths = []
    for path in (tmp_path / "rounds/round-1.onnx", tmp_path / "rounds/round-2.onnx"):
        model = io.load(path)
        weights = [stored_input(model, *place) for place in _PLACES]
        widths.append(tuple(map(len, _gone(weights))))
    assert widths == [(2, 1), (4, 3)]
    assert stored_input(io.load(result), "second", 1).shape == (12, 9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("criterion=threshold", "criterion threshold does not rank units"),
        ("criterion=given", "criterion given needs importances"),
        ("amount=1", "amount must be from 0 to below 1"),
        ("multiple=0", "multiple at least 1"),
        ("seed=-1", "seed at least 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(text: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        parse_pass(f"regrow-channels:{text}")


@pytest.mark.parametrize("subject", ["resnet20"], indirect=True)
def test_a_real_model_comes_nearer_to_what_it_was(subject: Path) -> None:
    original = Session(subject / "model.onnx")
    test = load_dataset(str(subject / "test.npz"), original.inputs)
    feeds = next(test.take(range(50)).batches(50)).feeds
    expected = next(iter(original.run(feeds).values()))
    noise = []
    for back in ([], [RegrowChannels(amount=0.125)]):
        model = io.load(subject / "model.onnx")
        PassManager([PruneChannels(amount=0.5), *back]).run(model)
        masked = next(iter(Session(io.to_bytes(model)).run(feeds).values()))
        PassManager([StripPruned()]).run(model)
        stripped = next(iter(Session(io.to_bytes(model)).run(feeds).values()))
        np.testing.assert_allclose(stripped, masked, atol=1e-4 * np.abs(masked).max())
        noise.append(sqnr(expected, masked))
    assert noise[1] > noise[0] + 3
