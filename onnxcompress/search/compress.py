"""The main job: try what makes sense, measure it, write the best that holds the budget."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxcompress.errors import OnnxCompressError, OutputError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.measure.environment import environment
from onnxcompress.measure.metrics import resolve_metric
from onnxcompress.pass_base import PassReport
from onnxcompress.pass_manager import OnError, PassManager
from onnxcompress.progress import Progress, Silent
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import (
    SCHEMA_VERSION,
    CandidateReport,
    CompressReport,
    ModelReport,
    Status,
)
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CANDIDATES, CLEAN_UP, CLEANED, Goal, traits_of
from onnxcompress.search.choice import Choice, choose
from onnxcompress.search.judge import Judge
from onnxcompress.search.samples import load_samples
from onnxcompress.target import Target

RECIPE = "recipe"
"""The candidate that a given recipe makes."""


def compress(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    data: str | None = None,
    metric: str | None = None,
    max_drop: float = 0.01,
    recipe: Recipe | None = None,
    goal: Goal = Goal.SPEED,
    target: Target | None = None,
    threads: int = 1,
    batch_size: int = 1,
    seed: int = 0,
    calibration_table: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> CompressReport:
    """Writes the best model that holds the accuracy budget, with the proof.

    Without a recipe, the model is cleaned up, int8 candidates that make sense for it are built, and
    all of them are measured against the original on data that they were not calibrated on. If none
    is better, the cleaned original is written. With a recipe, that one candidate is written and
    measured.

    Args:
        model: path of an .onnx file; it is never changed.
        output: path to write.
        data: an .npz, a folder of them, a `test_data_set_*` folder or `module:function`; without it
            samples are made up and prove little.
        metric: `top1`, `top5`, `f1`, `mse`, `cosine`, `sqnr`, `agreement` or `module:function`;
            None chooses by the outputs and labels.
        max_drop: the budget: the largest drop of the metric, see `measure.metrics`.
        recipe: what to do instead of searching.
        goal: the fastest model, or the smallest.
        target: the processor to quantize for; None for this one.
        threads: threads that latency is measured with.
        batch_size: samples in a batch, for accuracy and latency.
        seed: of every random choice.
        calibration_table: a file that keeps the calibration between calls.
        progress: told how it gets on.

    Returns:
        What was tried and measured, and what was written.

    Raises:
        OnnxCompressError: the model, the data or the recipe is not usable, a pass of the recipe
            failed, or the output cannot be written. Nothing was written then.
    """
    source, output = Path(model), Path(output)
    progress = progress or Silent()
    io.check_writable(output, source)
    loaded = io.load(source)
    samples = load_samples(data, Session(source).inputs, calibrating=True, seed=seed)
    judged_by = resolve_metric(metric) if metric else None
    context = RuntimeContext(
        samples.calibration,
        target=target,
        calibration=Path(calibration_table) if calibration_table else None,
        progress=progress.stage("Calibration"),
    )
    judge = Judge(
        source,
        samples.evaluation,
        judged_by,
        threads=threads,
        batch_size=batch_size,
        progress=progress,
    )
    with tempfile.TemporaryDirectory(prefix="onnxcompress-") as folder:
        if recipe is not None:
            drafts = [_by_recipe(loaded, recipe, context, Path(folder))]
        else:
            drafts = list(_by_search(loaded, context, goal, Path(folder), progress))
        built = [draft for draft in drafts if draft.path is not None]
        latencies = judge.latencies([draft.path for draft in built if draft.path])
        baseline = judge.report(source, "original", latencies[0])
        for draft, latency in zip(built, latencies[1:], strict=True):
            assert draft.path is not None
            draft.measured = judge.report(draft.path, draft.name, latency)
        choice = choose(
            baseline,
            {d.name: d.measured for d in built if d.measured},
            max_drop,
            goal,
            fallback=RECIPE if recipe else CLEANED,
        )
        chosen = next(draft for draft in built if draft.name == choice.name)
        assert chosen.model is not None and chosen.path is not None
        written = _write(chosen.model, output, chosen.path, judge)
    return CompressReport(
        schema_version=SCHEMA_VERSION,
        input=str(source),
        output=str(output),
        written=tuple(str(path) for path in written),
        improved=choice.improved,
        verdict=choice.verdict,
        metric=judge.metric.name,
        max_drop=max_drop,
        goal=goal.value,
        target=context.target.value,
        data=samples.report,
        environment=environment(threads),
        baseline=baseline,
        candidates=tuple(draft.report(choice) for draft in drafts),
        notes=_notes(samples.report.caveat, chosen.measured, max_drop),
    )


@dataclass
class _Draft:
    """A candidate on its way: built, saved, measured."""

    name: str
    recipe: Recipe
    passes: tuple[PassReport, ...] = ()
    failure: str | None = None
    unfit: str | None = None
    model: Model | None = None
    path: Path | None = None
    measured: ModelReport | None = None

    def report(self, choice: Choice) -> CandidateReport:
        if self.unfit is not None:
            status, reason = Status.NOT_TRIED, self.unfit
        elif self.failure is not None:
            status, reason = Status.FAILED, self.failure
        else:
            status, reason = choice.statuses[self.name]
        return CandidateReport(
            name=self.name,
            status=status,
            reason=reason,
            recipe=self.recipe.dump(),
            passes=self.passes,
            model=self.measured,
        )


def _by_recipe(model: Model, recipe: Recipe, context: RuntimeContext, folder: Path) -> _Draft:
    """Runs a given recipe; a failing pass is the caller's to know."""
    draft = _Draft(RECIPE, recipe, model=clone(model))
    assert draft.model is not None
    draft.passes = tuple(PassManager(recipe.passes).run(draft.model, context))
    _save_draft(draft, folder)
    return draft


def _by_search(
    model: Model, context: RuntimeContext, goal: Goal, folder: Path, progress: Progress
) -> Iterator[_Draft]:
    """Cleans the model up, then builds each candidate that fits it from the cleaned one."""
    traits = traits_of(model, has_data=context.data is not None, goal=goal)
    advance = progress.stage("Building candidates")
    cleaned = _Draft(CLEANED, Recipe(CLEAN_UP), model=clone(model))
    assert cleaned.model is not None
    manager = PassManager(CLEAN_UP, on_error=OnError.SKIP)
    cleaned.passes = tuple(manager.run(cleaned.model, context))
    _save_draft(cleaned, folder)
    yield cleaned
    for done, candidate in enumerate(CANDIDATES, 1):
        recipe = Recipe((*CLEAN_UP, *candidate.recipe.passes))
        draft = _Draft(candidate.name, recipe, unfit=candidate.unfit(traits))
        if draft.unfit is None:
            draft.model = clone(cleaned.model)
            try:
                reports = PassManager(candidate.recipe.passes).run(draft.model, context)
                draft.passes = (*cleaned.passes, *reports)
                if any(report.modified for report in reports):
                    _save_draft(draft, folder)
                else:
                    draft.unfit = "its passes found nothing to change"
            except OnnxCompressError as fault:
                draft.failure = str(fault)
        advance(done, len(CANDIDATES))
        yield draft


def _save_draft(draft: _Draft, folder: Path) -> None:
    assert draft.model is not None
    path = folder / f"{draft.name}.onnx"
    io.save(draft.model, path)
    draft.path = path


def _write(model: Model, output: Path, measured: Path, judge: Judge) -> Sequence[Path]:
    """Writes the answer and makes sure that the file on disk is the model that was measured."""
    written = io.save(model, output)
    feed = judge.feed()
    proof, again = Session(measured).run(feed), Session(output).run(feed)
    for name, value in proof.items():
        if isinstance(value, np.ndarray) and value.tobytes() != again[name].tobytes():
            for path in written:
                path.unlink()
            raise OutputError(
                f"{output}: output {name!r} of the written file differs from what was measured; "
                "the file was removed"
            )
    return written


def _notes(caveat: str | None, chosen: ModelReport | None, max_drop: float) -> tuple[str, ...]:
    notes = [caveat] if caveat else []
    if chosen is not None and chosen.score.drop <= max_drop < chosen.score.drop_interval[1]:
        notes.append(
            f"the drop may be as large as {chosen.score.drop_interval[1]:.4g} (95 % interval), over "
            f"the budget of {max_drop:.4g}; more samples would tell"
        )
    if chosen is not None and chosen.surviving_qdq:
        names = ", ".join(chosen.surviving_qdq[:3])
        more = len(chosen.surviving_qdq) - 3
        names += f" and {more} more" if more > 0 else ""
        notes.append(f"onnxruntime does not fuse these into integer kernels: {names}")
    return tuple(notes)
