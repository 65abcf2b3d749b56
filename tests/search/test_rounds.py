"""Rounds stop where the budget ends, and can be resumed to the same bytes."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from rich.console import Console

from onnxcompress.budget import Budget
from onnxcompress.errors import CheckpointError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model
from onnxcompress.pass_base import Context, Pass
from onnxcompress.passes import (
    FoldBatchNorm,
    PruneChannels,
    PruneWeights,
    QuantizeDynamic,
    RefitWeights,
    StoreSparse,
    StripPruned,
)
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import CompressReport
from onnxcompress.report.terminal import compress_report
from onnxcompress.search import checkpoint
from onnxcompress.search.compress import compress
from onnxcompress.search.schedule import Iteration, Schedule
from tests.helpers import parse
from tests.test_cli import ASSETS

MODEL = """g (float[N,1] x) => (float[N,10] y)
<float[1,10] W = {1,2,3,4,5,6,7,8,9,10}> { y = MatMul(x, W) }"""
RECIPE = Recipe((PruneWeights(sparsity=0.8),))
METRIC = "tests.search.test_rounds:share_left"
FOUR = Iteration(rounds=4)


def share_left(outputs: dict[str, np.ndarray], labels: object) -> float:
    """A metric that falls by 0.1 with each of the ten weights that goes."""
    del labels
    return float(np.mean(outputs["y"] != 0))


@dataclass(frozen=True)
class Job:
    """A folder with a model and its data."""

    folder: Path

    def run(self, output: str, **options: Any) -> CompressReport:
        given: dict[str, Any] = {"recipe": RECIPE, "iteration": FOUR, "max_drop": 0.5} | options
        return compress(
            given.pop("model", self.folder / "model.onnx"),
            self.folder / output,
            data=given.pop("data", str(self.folder / "data.npz")),
            metric=METRIC,
            **given,
        )

    def weights(self, output: str) -> list[float]:
        model = io.load(self.folder / output)
        return [value for constant in model.constants() for value in constant.values.ravel()]

    def kept(self, **options: Any) -> Iteration:
        return Iteration(**{"rounds": 4, "checkpoints": self.folder / "rounds", **options})

    def names(self) -> list[str]:
        return sorted(each.name for each in (self.folder / "rounds").iterdir())


@pytest.fixture
def job(tmp_path: Path) -> Job:
    io.save(parse(MODEL), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.arange(1, 25, dtype=np.float32)[:, None])
    return Job(tmp_path)


def test_the_last_round_within_the_budget_is_kept(job: Job) -> None:
    report = job.run("out.onnx")
    assert [each.zeros for each in report.rounds] == pytest.approx([0.2, 0.4, 0.6])
    assert [each.drop for each in report.rounds] == pytest.approx([0.2, 0.4, 0.6])
    assert [each.share for each in report.rounds] == [0.25, 0.5, 0.75]
    assert [each.held for each in report.rounds] == [True, True, False]
    assert report.kept_round == 2
    assert job.weights("out.onnx") == [0, 0, 0, 0, 5, 6, 7, 8, 9, 10]
    assert report.chosen.recipe == Recipe((PruneWeights(sparsity=0.4),)).dump()
    assert [each.name for each in report.chosen.passes] == ["prune-weights"] * 2
    assert "round 3 of 4 dropped 0.6, over a drop of 0.5 at most: round 2 was kept" in report.notes
    assert report.data.calibration_samples == report.data.training_samples == 12
    assert (report.data.choosing_samples, report.data.evaluation_samples) == (5, 7)


@pytest.mark.parametrize(
    ("iteration", "drops"),
    [
        (FOUR, [0.2, 0.4, 0.6, 0.8]),
        (Iteration(rounds=2, schedule=Schedule.CUBIC), [0.7, 0.8]),
        (Iteration(rounds=1, schedule=Schedule.ONE_SHOT), [0.8]),
    ],
)
def test_all_rounds_where_the_budget_lasts(
    iteration: Iteration, drops: list[float], job: Job
) -> None:
    report = job.run("out.onnx", iteration=iteration, max_drop=0.81)
    assert [each.drop for each in report.rounds] == pytest.approx(drops)
    assert report.kept_round == len(drops)
    assert job.weights("out.onnx") == [0] * 8 + [9, 10]
    assert not any("round" in note for note in report.notes)


def test_without_a_round_within_the_budget_nothing_is_pruned(job: Job) -> None:
    report = job.run("out.onnx", max_drop=0.1)
    assert [each.held for each in report.rounds] == [False]
    assert report.kept_round == 0
    assert not report.improved
    assert job.weights("out.onnx") == list(range(1, 11))
    assert any("so what was written is not pruned" in note for note in report.notes)


def test_passes_that_finish_run_on_copies_alone(job: Job) -> None:
    finishing = Recipe((*RECIPE.passes, StoreSparse(min_elements=1), QuantizeDynamic()))
    report = job.run("out.onnx", recipe=finishing, iteration=job.kept())
    names = [each.name for each in report.chosen.passes]
    assert names == ["prune-weights", "prune-weights", "store-sparse", "quantize-dynamic"]
    left = io.load(job.folder / "rounds" / "round-2.onnx")
    assert [node.op for _, node in left.nodes()] == ["MatMul"]


@dataclass(frozen=True, kw_only=True)
class Watch(Pass):
    """Notes the unpruned model that it is told of."""

    name: ClassVar[str] = "watch"
    recovers: ClassVar[bool] = True
    seen: ClassVar[list[tuple[float, float]]] = []

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        del edit
        assert context.unpruned_model is not None
        first, now = (
            sum(float(np.sum(each.values)) for each in known.constants())
            for known in (context.unpruned_model, model)
        )
        self.seen.append((first, now))


def test_the_unpruned_model_stays_the_first(job: Job) -> None:
    Watch.seen.clear()
    job.run("out.onnx", recipe=Recipe((*RECIPE.passes, Watch())), max_drop=1)
    assert Watch.seen == [(55, 52), (55, 45), (55, 34), (55, 19)]


@dataclass(frozen=True, kw_only=True)
class Double(Pass):
    """W -> 2 W, by a pass that says it prunes."""

    name: ClassVar[str] = "double"
    prunes: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        del context
        (product,) = model.graph.nodes
        weight = product.inputs[1]
        assert isinstance(weight, Constant)
        edit.set_input(product, 1, edit.constant(weight.name, weight.values * 2))


def test_what_prunes_before_the_rounds_runs_once(job: Job) -> None:
    """The unpruned model is the one before it."""
    Watch.seen.clear()
    job.run("out.onnx", recipe=Recipe((Double(), *RECIPE.passes, Watch())), max_drop=1)
    assert Watch.seen == [(55, 104), (55, 90), (55, 68), (55, 38)]
    assert job.weights("out.onnx") == [0] * 8 + [18, 20]


def test_a_round_that_changes_nothing_says_so(job: Job) -> None:
    recipe = Recipe((PruneWeights(sparsity=0.2),))
    report = job.run("out.onnx", recipe=recipe)
    # 0.5, 1, 1.5 and 2 weights; halves go to the even number
    assert [each.changed for each in report.rounds] == [False, True, True, False]
    assert report.kept_round == 4


def test_rounds_are_shown(job: Job) -> None:
    report = job.run("out.onnx")
    console = Console(width=200)
    with console.capture() as capture:
        console.print(compress_report(report))
    shown = capture.get()
    lines = [line.split() for line in shown.splitlines()]
    (line,) = [line for line in lines if line[:1] == ["2"]]
    assert line[:4] == ["2", "50%", "40.0%", "10"] and line[-1] == "chosen"
    assert "chosen by 5" in shown
    assert shown.count("prune-weights:") == 1


def stopped(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Ctrl-C when something is done for the n-th time."""
    times = itertools.count(1)

    def call(*arguments: Any, **named: Any) -> Any:
        if next(times) == at:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    return call


STOPS: dict[str, tuple[tuple[Any, str, int], int | None]] = {
    # Each round writes its model, then the finished one; the state is written at the start too.
    "the model of round 2": ((Path, "replace", 5), 1),
    "the finished model of round 2": ((Path, "replace", 6), 1),
    "the state of round 2": ((checkpoint, "write_text", 3), 1),
    "the state of round 2, half of it": ((Path, "replace", 7), 1),
    "the finished model of round 3": ((Path, "replace", 9), 2),
    "the state at the start": ((checkpoint, "write_text", 1), None),
}


@pytest.mark.parametrize("stop", STOPS)
def test_an_interrupted_run_ends_in_the_same_bytes(
    stop: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = job.run("whole.onnx")
    (where, what, at), complete = STOPS[stop]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(where, what, stopped(getattr(where, what), at))
        job.run("out.onnx", iteration=job.kept())
    assert not (job.folder / "out.onnx").exists()
    if complete is None:
        assert job.names() == []
        with pytest.raises(CheckpointError, match="holds no checkpoints"):
            job.run("out.onnx", iteration=job.kept(resume=True))
        return
    assert set(job.names()) <= {"state.json", *(f"round-{n}.onnx" for n in (1, 2, 3))}
    state = json.loads((job.folder / "rounds" / "state.json").read_text())
    assert len(state["rounds"]) == complete
    resumed = job.run("out.onnx", iteration=job.kept(resume=True))
    assert resumed.rounds == whole.rounds
    assert [each.changes for each in resumed.chosen.passes] == [
        each.changes for each in whole.chosen.passes
    ]
    assert (job.folder / "out.onnx").read_bytes() == (job.folder / "whole.onnx").read_bytes()


def test_a_complete_run_is_only_finished_again(job: Job) -> None:
    first = job.run("first.onnx", iteration=job.kept())
    files = {name: (job.folder / "rounds" / name).stat().st_mtime_ns for name in job.names()}
    assert list(files) == ["round-1.onnx", "round-2.onnx", "round-3.onnx", "state.json"]
    again = job.run("again.onnx", iteration=job.kept(resume=True))
    assert again.rounds == first.rounds and again.kept_round == 2
    assert (job.folder / "again.onnx").read_bytes() == (job.folder / "first.onnx").read_bytes()
    now = {name: (job.folder / "rounds" / name).stat().st_mtime_ns for name in job.names()}
    assert now == files


def _other_model(job: Job) -> dict[str, Any]:
    io.save(parse(MODEL.replace("{1,", "{1.5,")), job.folder / "other.onnx")
    return {"model": job.folder / "other.onnx"}


def _other_data(job: Job) -> dict[str, Any]:
    np.savez(job.folder / "other.npz", x=np.arange(2, 26, dtype=np.float32)[:, None])
    return {"data": str(job.folder / "other.npz")}


CHANGES: dict[str, Callable[[Job], dict[str, Any]]] = {
    "model was ": _other_model,
    "calibration was ": _other_data,
    "recipe was ": lambda _: {"recipe": Recipe((PruneWeights(sparsity=0.7),))},
    r"shares was \(0.25, 0.5, 0.75, 1.0\), is \(0.5, 1.0\)": lambda job: {
        "iteration": job.kept(rounds=2, resume=True)
    },
    r"shares was \(0.25.*is \(0.578125": lambda job: {
        "iteration": job.kept(schedule=Schedule.CUBIC, resume=True)
    },
    "budget was a drop of 0.5 at most, is a drop of 0.4 at most": lambda _: {"max_drop": 0.4},
    "budget was .*, is at least 90 % of": lambda _: {"keep": 0.9},
    r"judged was \(\), is \('y',\)": lambda _: {"judge_outputs": [("y", None)]},
    "batch size was 1, is 2": lambda _: {"batch_size": 2},
    "seed was 0, is 1": lambda _: {"seed": 1},
}


@pytest.mark.parametrize("message", CHANGES)
def test_other_questions_do_not_resume(message: str, job: Job) -> None:
    job.run("first.onnx", iteration=job.kept())
    options = {"iteration": job.kept(resume=True)} | CHANGES[message](job)
    with pytest.raises(CheckpointError, match=f"of another run: {message}"):
        job.run("out.onnx", **options)
    assert not (job.folder / "out.onnx").exists()


def test_checkpoints_are_not_overwritten(job: Job) -> None:
    job.run("first.onnx", iteration=job.kept())
    with pytest.raises(CheckpointError, match="holds the checkpoints of an earlier run"):
        job.run("out.onnx", iteration=job.kept())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("state.json", lambda path: path.write_text("{"), "not what a run in rounds wrote"),
        ("state.json", lambda path: path.write_text("{}"), "not what a run in rounds wrote"),
        (
            "state.json",
            lambda path: path.write_text(path.read_text().replace('"drop": 0', '"drop": 1', 1)),
            "it was changed, or cut short",
        ),
        (
            "state.json",
            lambda path: path.write_text(re.sub('"drop": [^,]*', '"drop": NaN', path.read_text())),
            "it holds NaN",
        ),
        ("state.json", lambda path: path.write_text("[" * 100_000), "not what a run in rounds"),
        ("state.json", lambda path: os.truncate(path, 1 << 27), "larger than 64 MiB"),
        ("round-2.onnx", lambda path: path.unlink(), "begin anew"),
        ("round-2.onnx", lambda path: path.write_bytes(path.read_bytes()[:-9]), "begin anew"),
        (
            "round-2.onnx",
            lambda path: path.write_bytes(path.with_name("round-1.onnx").read_bytes()),
            "is not the model that round 2 left",
        ),
    ],
)
def test_damage_is_found(
    name: str, change: Callable[[Path], object], message: str, job: Job
) -> None:
    job.run("first.onnx", iteration=job.kept())
    change(job.folder / "rounds" / name)
    with pytest.raises(CheckpointError, match=message):
        job.run("out.onnx", iteration=job.kept(resume=True))


def test_a_folder_that_cannot_be_made(job: Job) -> None:
    (job.folder / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be made"):
        job.run("out.onnx", iteration=Iteration(rounds=2, checkpoints=job.folder / "file" / "x"))


def test_rounds_need_a_recipe_that_prunes(job: Job) -> None:
    with pytest.raises(RecipeError, match="none was given"):
        job.run("out.onnx", recipe=None)
    with pytest.raises(RecipeError, match="this one has quantize-dynamic"):
        job.run("out.onnx", recipe=Recipe((QuantizeDynamic(),)))


def test_outputs_that_are_nan_are_a_round_over_the_budget(job: Job) -> None:
    """The drop is infinite then, which a checkpoint must be able to say."""
    first = job.run("first.onnx", iteration=job.kept())
    rounds = tuple(replace(each, drop=math.inf) for each in first.rounds)
    question = checkpoint.Question(
        version="",
        model="",
        calibration=None,
        training=None,
        validation="",
        recipe="",
        shares=(1.0,),
        metric="agreement",
        judged=(),
        budget=Budget(0.0),
        batch_size=1,
        target="",
        seed=0,
    )
    made = checkpoint.Checkpoints.begin(job.folder / "more", question)
    for each in rounds:
        made.add(checkpoint.Round(model="", passes=first.chosen.passes, report=each))
    again = checkpoint.Checkpoints.resume(job.folder / "more", question)
    assert again.rounds == made.rounds


@pytest.mark.slow
def test_digits_in_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels of a real classifier: stopped after a round, resumed, stripped."""
    with np.load(ASSETS / "digits.npz") as arrays:
        np.savez(tmp_path / "data.npz", **{key: arrays[key][:120] for key in arrays})
    recipe = Recipe(
        (FoldBatchNorm(), PruneChannels(amount=0.5, multiple=8), RefitWeights(), StripPruned())
    )
    kept = Iteration(rounds=2, checkpoints=tmp_path / "rounds")

    def run(output: str, iteration: Iteration) -> CompressReport:
        return compress(
            ASSETS / "digits.onnx",
            tmp_path / output,
            data=str(tmp_path / "data.npz"),
            recipe=recipe,
            iteration=iteration,
            max_drop=0.05,
            batch_size=8,
        )

    whole = run("whole.onnx", Iteration(rounds=2))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", stopped(os.fsync, 3))
        run("out.onnx", kept)
    resumed = run("out.onnx", replace(kept, resume=True))
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert resumed.rounds == whole.rounds
    assert whole.kept_round == 2
    first, second = whole.rounds
    assert whole.baseline.parameters > first.parameters > second.parameters
    assert second.parameters == whole.chosen.model.parameters  # type: ignore[union-attr]
    assert io.load(tmp_path / "rounds" / "round-2.onnx").parameters > second.parameters
