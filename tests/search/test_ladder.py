"""Pruned candidates: for which models, in which order, and when to stop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import onnxcompress
from onnxcompress.budget import Budget
from onnxcompress.errors import DataError, SessionError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.judging.score import Score
from onnxcompress.measure.latency import Latency, summarize
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import Status
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search import ladder
from onnxcompress.search.candidates import CLEAN_UP, Goal, traits_of
from onnxcompress.search.choice import Choice
from onnxcompress.search.draft import Draft
from onnxcompress.search.judge import Judge
from onnxcompress.search.ladder import AMOUNTS, SECONDS, Ladder
from onnxcompress.search.samples import Samples, load_samples
from tests.passes.support import model_of, normal
from tests.scores import score

NAMES = ["pruned-30", "pruned-50"]


def _mlp(width: int = 64) -> Model:
    return model_of(
        "g (float[N, 8] x) => (float[N, 4] y) { h = Gemm(x, u)  r = Relu(h)  k = Gemm(r, v)"
        " s = Relu(k)  y = Gemm(s, w) }",
        u=normal(8, width),
        v=normal(width, width, seed=1),
        w=normal(width, 4, seed=2),
    )


def _cnn() -> Model:
    return model_of(
        "g (float[N, 8] x) => (float[N, 4] y) { i = Reshape(x, shape)  c = Conv(i, u)"
        " f = Flatten(c)  y = Gemm(f, w) }",
        u=normal(16, 1, 1, 3),
        w=normal(96, 4),
        shape=np.array([-1, 1, 1, 8]),
    )


def _files(folder: Path, model: Model, count: int) -> tuple[Path, str]:
    path, data = folder / "model.onnx", folder / "data.npz"
    io.save(model, path)
    x = normal(count, 8, seed=5)
    labels = next(iter(Session(path).run({"x": x}).values())).argmax(axis=1)
    np.savez(data, x=x, labels=labels)
    return path, str(data)


def _samples(folder: Path, model: Model, count: int | None) -> Samples:
    path, data = _files(folder, model, count or 1)
    return load_samples(data if count else None, Session(path), seed=0)


def _unfit(folder: Path, model: Model, count: int | None) -> str | None:
    samples = _samples(folder, model, count)
    traits = traits_of(model, has_data=samples.calibration is not None, goal=Goal.SPEED)
    return ladder.unfit(model, traits, samples, RuntimeContext(samples.calibration))


def test_models_of_matrix_products_with_enough_samples_are_pruned(tmp_path: Path) -> None:
    assert _unfit(tmp_path, _mlp(), 250) is None


@pytest.mark.parametrize(
    ("model", "count", "told"),
    [
        (_mlp(), None, "needs data (--data)"),
        (_mlp(), 3, "3 samples are too few"),
        (_mlp(), 245, "49 samples are too few to choose by (50 are enough)"),
        (_cnn(), 400, "matrix products do 57% of"),
    ],
)
def test_other_models_are_not(
    model: Model, count: int | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "_LEAST_SHARE", 0.6)
    reason = _unfit(tmp_path, model, count)
    assert reason is not None and told in reason


def test_models_that_would_take_too_long_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "_MOST_WEIGHTS", 1000)
    reason = _unfit(tmp_path, _mlp(), 400)
    assert reason is not None
    assert "4,864 weights of matrix products take longer than the 300 s" in reason


def _climbed(
    folder: Path,
    drops: dict[str, float],
    clock: Callable[[], float] | None = None,
    model: Model | None = None,
) -> tuple[list[Draft], list[str]]:
    """The rungs, and which of them were tested."""
    tested: list[str] = []

    def test(path: Path, name: str) -> Score:
        assert path.exists()
        tested.append(name)
        return score(drops[name])

    model = model or _mlp()
    samples = _samples(folder, model, 400)
    cleaned = Draft("cleaned", Recipe(CLEAN_UP), model=model)
    rungs = Ladder(
        start=cleaned,
        quantized=cleaned,
        context=RuntimeContext(samples.calibration),
        folder=folder,
        test=test,
        budget=Budget(0.01),
        clock=clock or time.monotonic,
    )
    told: list[tuple[int, int]] = []
    drafts = list(rungs.climb(lambda done, total: told.append((done, total))))
    assert [draft.name for draft in drafts] == NAMES
    assert told[-1] == (len(AMOUNTS), len(AMOUNTS))
    return drafts, tested


def test_every_rung_takes_more_away(tmp_path: Path) -> None:
    drafts, tested = _climbed(tmp_path, {"pruned-30": 0.0, "pruned-50": 0.01})
    assert tested == NAMES
    sizes = [draft.model.parameters for draft in drafts if draft.model and draft.path]
    assert len(sizes) == 2 and _mlp().parameters > sizes[0] > sizes[1]


def test_no_rung_behind_one_that_is_over_the_budget(tmp_path: Path) -> None:
    drafts, tested = _climbed(tmp_path, {"pruned-30": 0.02})
    assert tested == ["pruned-30"]
    assert [draft.path for draft in drafts] == [None, None]
    assert drafts[0].over_budget == "drop 0.02 > 0.01 allowed, on the samples that choose"
    assert drafts[1].unfit == "pruned-30, which takes less away, is over the budget"


def test_a_rung_that_would_not_fit_into_the_time_is_not_tried(tmp_path: Path) -> None:
    calls = 0

    def clock() -> float:
        """Time passes while the first rung is tested, the last thing that is done of it."""
        nonlocal calls
        calls += 1
        return 0.6 * SECONDS if (tmp_path / "pruned-30.onnx").exists() else 0.0

    drafts, tested = _climbed(tmp_path, {"pruned-30": 0.0}, clock)
    assert calls > 3
    assert tested == ["pruned-30"] and drafts[0].path is not None
    assert drafts[1].unfit == "the 300 s that the search has for pruning would not be enough"


def test_a_rung_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    times = itertools.chain([0.0, 0.0], itertools.repeat(SECONDS + 1))
    drafts, tested = _climbed(tmp_path, {}, lambda: next(times))
    assert tested == []
    assert drafts[0].unfit == "it was not done within the 300 s that the search has"
    assert drafts[1].unfit == "pruned-30, which takes less away, took too long"


def test_no_rung_behind_one_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DataError("no such data")

    monkeypatch.setattr(RuntimeContext, "activations", refuse)
    drafts, tested = _climbed(tmp_path, {})
    assert tested == []
    assert drafts[0].failure is not None and "no such data" in drafts[0].failure
    assert drafts[1].unfit == "pruned-30, which takes less away, failed"


def test_where_less_can_go_than_a_rung_asks_for_all_of_that_goes(tmp_path: Path) -> None:
    """Of the four neurons behind a Softmax three can go, and with them 216 of 800 products."""
    model = model_of(
        "g (float[N, 8] x) => (float[N, 8] y) { h = Gemm(x, u)  p = Softmax <axis = 1> (h)"
        " k = Gemm(p, v)  r = Relu(k)  y = Gemm(r, w) }",
        u=normal(8, 64),
        v=normal(64, 4, seed=1),
        w=normal(4, 8, seed=2),
    )
    drafts, tested = _climbed(tmp_path, {"pruned-30": 0.0}, model=model)
    assert tested == ["pruned-30"] and drafts[0].path is not None
    told = "amount=0.3 of the macs is more than can go (0.27), which went"
    assert drafts[0].remark == told
    held = Choice(
        name=drafts[0].name,
        improved=True,
        verdict=None,
        statuses={drafts[0].name: (Status.HOLDS, "drop 0 <= 0.01 allowed")},
        finals={},
    )
    assert drafts[0].report(held).reason == f"drop 0 <= 0.01 allowed; {told}"
    assert drafts[1].unfit == "pruned-30 took all that can go"


def test_a_model_of_which_nothing_can_go_did_not_fail(tmp_path: Path) -> None:
    model = model_of("g (float[N, 8] x) => (float[N, 4] y) { y = Gemm(x, u) }", u=normal(8, 4))
    drafts, tested = _climbed(tmp_path, {}, model=model)
    assert tested == [] and [draft.failure for draft in drafts] == [None, None]
    assert [draft.unfit for draft in drafts] == [ladder.NOTHING_GOES] * 2


class _Judge:
    """Knows each model by its name: seconds a run, and the drop; `broken` does not run."""

    def __init__(self, known: dict[str, tuple[float, float]], *, untimed: bool = False):
        self._known = known
        self._untimed = untimed
        self.scored: list[str] = []

    def latencies(self, paths: Sequence[Path], _: float) -> list[Latency]:
        if self._untimed:
            raise SessionError("does not load")
        times = [1.0, *(self._known[path.stem][0] for path in paths)]
        return list(summarize(np.array([times, times]), [1] * len(times), 0).latencies)

    def score(self, path: Path, name: str) -> Score:
        self.scored.append(name)
        if name == "broken":
            raise SessionError("does not run")
        return score(self._known[path.stem][1])


KNOWN = {"broken": (0.1, 0.0), "wrong": (0.2, 0.5), "fast": (0.5, 0.01), "slow": (2.0, 0.0)}


def _drafts(folder: Path, sizes: dict[str, int]) -> list[Draft]:
    drafts = [Draft("cleaned", Recipe(()), path=folder / "cleaned.onnx")]
    drafts.append(Draft("unfit", Recipe(()), unfit="it is"))
    for name, size in sizes.items():
        drafts.append(Draft(name, Recipe(()), path=folder / f"{name}.onnx"))
        io.save(_mlp(size), folder / f"{name}.onnx")
    return drafts


def _best(drafts: list[Draft], judge: _Judge, goal: Goal) -> str:
    return ladder.best_quantized(drafts, cast(Judge, judge), Budget(0.01), goal).name


def test_pruned_models_are_quantized_like_the_best_that_holds(tmp_path: Path) -> None:
    drafts = _drafts(tmp_path, {"slow": 10, "fast": 30, "wrong": 5, "broken": 2})
    judge = _Judge(KNOWN)
    assert _best(drafts, judge, Goal.SPEED) == "fast"
    assert judge.scored == ["broken", "wrong", "fast"]
    assert _best(drafts, _Judge(KNOWN), Goal.SIZE) == "slow"
    assert _best(_drafts(tmp_path, {"wrong": 1}), _Judge(KNOWN), Goal.SPEED) == "cleaned"
    assert _best(_drafts(tmp_path, {}), _Judge(KNOWN), Goal.SPEED) == "cleaned"
    assert _best(drafts, _Judge(KNOWN, untimed=True), Goal.SPEED) == "cleaned"


@pytest.mark.slow
def test_compress_prunes_what_the_samples_set_aside_allow(tmp_path: Path) -> None:
    """Seven of eight neurons are copies: the others make up for them."""
    wide = model_of(
        "g (float[N, 8] x) => (float[N, 4] y) { h = Gemm(x, u)  r = Relu(h)  y = Gemm(r, w) }",
        u=np.tile(normal(8, 64), 8),
        w=normal(512, 4, seed=2),
    )
    source, data = _files(tmp_path, wide, 800)
    report = onnxcompress.compress(
        source, tmp_path / "small.onnx", data=data, max_drop=0.15, goal=Goal.SIZE
    )
    pruned = {each.name: each for each in report.candidates if each.name in NAMES}
    assert list(pruned) == NAMES
    assert report.data.choosing_samples == 160 and report.data.evaluation_samples == 240
    assert report.chosen.name == "pruned-50"
    assert report.chosen.model is not None
    assert report.chosen.model.parameters < 0.6 * report.baseline.parameters
    assert pruned["pruned-30"].status is Status.HOLDS
    # What is not pruned is as it was: the best without pruning says how to quantize.
    smallest = min(
        (each for each in report.candidates if each.model and each.name not in NAMES),
        key=lambda each: each.model.size.file_bytes if each.model else 0,
    )
    assert report.chosen.recipe.endswith(smallest.recipe.removeprefix(Recipe(CLEAN_UP).dump()))


def test_compress_says_why_a_model_was_not_pruned(tmp_path: Path) -> None:
    source, data = _files(tmp_path, _mlp(8), 40)
    report = onnxcompress.compress(source, tmp_path / "small.onnx", data=data)
    pruned = [each for each in report.candidates if each.name in NAMES]
    assert [each.status for each in pruned] == [Status.NOT_TRIED] * 2
    assert all("too few" in each.reason for each in pruned)
    assert report.data.choosing_samples == 8
