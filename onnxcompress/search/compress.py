"""The main job: try what makes sense, measure it, write the best that holds the budget."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from onnxcompress.budget import Budget
from onnxcompress.data.given_shapes import Shapes
from onnxcompress.data.splitting import Shares
from onnxcompress.errors import OutputError, RecipeError, SessionError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.measure.environment import environment
from onnxcompress.measure.metrics import resolve_metric
from onnxcompress.measure.zeros import zero_notes
from onnxcompress.progress import Progress, Silent
from onnxcompress.qdq.saturation_risk import (
    SaturationRisk,
    integer_products,
    saturation_risks,
)
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import (
    SCHEMA_VERSION,
    CompressReport,
    ModelReport,
)
from onnxcompress.runtime.calibration import fingerprint
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search import ladder
from onnxcompress.search.candidates import CLEANED, Goal, traits_of
from onnxcompress.search.checkpoint import Question, open_checkpoints
from onnxcompress.search.choice import choose
from onnxcompress.search.draft import RECIPE, Draft, by_recipe, by_search
from onnxcompress.search.judge import Judge
from onnxcompress.search.ladder import Ladder
from onnxcompress.search.rounds import Rounds
from onnxcompress.search.samples import data_notes, load_samples
from onnxcompress.search.schedule import Iteration, Plan
from onnxcompress.target import Target

UNCHANGED = "unchanged"
"""The original itself, where even cleaning it up costs more than the budget."""

_RELATIVE_DROPS = ("mse", "perplexity", "sqnr")
"""Metrics whose drop is a share of the original's."""


def compress(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    data: str | None = None,
    training: str | None = None,
    metric: str | None = None,
    max_drop: float = 0.01,
    keep: float | None = None,
    confidence: float = 0.95,
    judge_outputs: Sequence[tuple[str, str | None]] = (),
    split: Shares | str | None = None,
    group_by: str | None = None,
    shapes: Shapes | None = None,
    recipe: Recipe | None = None,
    iteration: Iteration | None = None,
    goal: Goal = Goal.SPEED,
    target: Target | None = None,
    threads: int = 1,
    batch_size: int = 1,
    seed: int = 0,
    calibration_table: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> CompressReport:
    """Writes the best model that holds the accuracy budget, with the proof.

    The data are split into a part to calibrate, refit and train on, a part to choose by and a part
    that judges the result.

    Without a recipe, the model is cleaned up, int8 candidates that make sense for it are built, and
    all of them are measured against the original on data that they were not calibrated on. A model
    of matrix products is also pruned, as far as that holds the budget on the part to choose by. If
    none is better, the cleaned original is written. With a recipe, that one candidate is written
    and measured. With an iteration too, the recipe is run in rounds until one of them drops more
    than the budget, on the part to choose by, and what the round before it left is written.

    Args:
        model: path of an .onnx file; it is never changed.
        output: path to write.
        data: an .npz, a folder of them, a `test_data_set_*` folder or `module:function`; without it
            samples are made up and prove little.
        training: likewise, samples to train and calibrate on, so that `data` is split in two only;
            needs `data`. Samples that are in both, or of a group that is, are left out of these.
        metric: `top1`, `top5`, `f1`, `mse`, `perplexity`, `cosine`, `sqnr`, `agreement` or
            `module:function`; None chooses by the outputs and labels.
        max_drop: the budget: the largest drop of the metric, see `measure.metrics`.
        keep: instead of `max_drop`, the least share of the original's metric that is left.
        confidence: how sure the verdict is to be.
        judge_outputs: the outputs to judge, each with how, or None for what suits it; no pairs for
            the default.
        split: how much of the data fits, chooses and judges, as `50/20/30`; `40/60` to choose and
            to judge with `training`.
        group_by: the array of the data whose values are groups (speakers, documents, films), none
            of which is in two parts.
        shapes: of inputs whose size the model leaves open, where samples are made up: whole shapes,
            the first axis being 1 where it counts samples. They are guessed otherwise.
        recipe: what to do instead of searching.
        iteration: how to run the recipe in rounds; None for once.
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
    plan = _plan(recipe, iteration)
    budget = Budget.of(max_drop, keep)
    del confidence, judge_outputs  # the judge does not ask yet
    loaded = io.load(source)
    session = Session(source)
    samples = load_samples(
        data,
        session,
        seed=seed,
        training=training,
        split=Shares.parse(split) if isinstance(split, str) else split,
        group_by=group_by,
        shapes=shapes,
    )
    judged_by = resolve_metric(metric) if metric else None
    context = RuntimeContext(
        samples.calibration,
        target=target,
        calibration=Path(calibration_table) if calibration_table else None,
        progress=progress.stage("Calibration"),
        training=samples.fit,
        training_progress=partial(progress.stage, "Training"),
        shapes=shapes,
    )
    traits = traits_of(loaded, has_data=samples.calibration is not None, goal=goal)
    unpruned = ladder.unfit(loaded, traits, samples, context) if recipe is None else None
    judge_on = partial(Judge, threads=threads, batch_size=batch_size, progress=progress)
    judge = judge_on(source, samples.judging, judged_by)
    relative = judge.metric.name in _RELATIVE_DROPS
    max_drop = budget.allowed(judge.score(source, "original").value, drop_is_relative=relative)
    with tempfile.TemporaryDirectory(prefix="onnxcompress-") as folder:
        rounds = None
        if plan is not None and iteration is not None:
            question = Question(
                version=environment(threads).onnxcompress,
                model=fingerprint(loaded),
                calibration=samples.calibration.fingerprint() if samples.calibration else None,
                training=samples.fit.fingerprint() if samples.fit else None,
                validation=samples.choosing.fingerprint(),
                recipe=plan.recipe.dump(),
                shares=iteration.shares,
                metric=metric,
                max_drop=max_drop,
                batch_size=batch_size,
                target=context.target.value,
                seed=seed,
            )
            checkpoints = open_checkpoints(iteration, question, Path(folder) / "rounds")
            rounds = Rounds(plan, checkpoints, context, folder=Path(folder), progress=progress)
        outcome = None
        if rounds is not None:
            outcome = rounds.run(loaded, judge_on(source, samples.choosing, judge.metric).score)
            drafts = [outcome.draft]
        elif recipe is not None:
            drafts = [by_recipe(loaded, recipe, context, Path(folder))]
        else:
            drafts = list(by_search(loaded, traits, context, Path(folder), progress))
            if unpruned is not None:
                drafts += ladder.untried(unpruned)
            else:
                tests = judge_on(source, samples.choosing, judge.metric)
                rungs = Ladder(
                    cleaned=drafts[0],
                    quantized=ladder.best_quantized(drafts, tests, max_drop, goal),
                    context=context,
                    folder=Path(folder),
                    test=tests.score,
                    max_drop=max_drop,
                )
                drafts += rungs.climb(progress.stage("Pruning"))
        built = [draft for draft in drafts if _runs(draft, judge)]
        latencies = judge.latencies([draft.path for draft in built if draft.path])
        baseline = judge.report(source, "original", latencies[0])
        for draft, latency in zip(built, latencies[1:], strict=True):
            assert draft.path is not None  # see _runs
            draft.measured = judge.report(draft.path, draft.name, latency)
        fallback = RECIPE
        if recipe is None:
            fallback = _fallback(drafts, loaded, source, baseline, max_drop)
        measured = {draft.name: draft.measured for draft in drafts if draft.measured}
        untouched = [draft.name for draft in drafts if draft.is_untouched]
        choice = choose(baseline, measured, max_drop, goal, fallback=fallback, untouched=untouched)
        chosen = next(draft for draft in drafts if draft.name == choice.name)
        assert chosen.model is not None and chosen.path is not None
        written = _write(chosen.model, output, chosen.path, judge)
    risks = saturation_risks(chosen.model)
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
        notes=(
            *data_notes(samples.report),
            *_notes(chosen, max_drop),
            *_portability(chosen.model, risks),
            *zero_notes(chosen.model),
            *(outcome.notes if outcome else ()),
        ),
        saturation=tuple(risks),
        rounds=outcome.rounds if outcome else (),
        kept_round=outcome.kept if outcome else None,
    )


def _plan(recipe: Recipe | None, iteration: Iteration | None) -> Plan | None:
    """What runs in rounds; None where nothing does.

    Raises:
        RecipeError: rounds were asked for, and there is nothing to do in them.
    """
    if iteration is None:
        return None
    if recipe is None:
        raise RecipeError("rounds need a recipe that prunes, and none was given")
    return Plan.of(recipe)


def _runs(draft: Draft, judge: Judge) -> bool:
    """Whether a candidate was built and runs on every sample; a recipe must."""
    if draft.path is None:
        return False
    try:
        judge.score(draft.path, draft.name)
    except SessionError as fault:
        if draft.name == RECIPE:
            raise
        draft.failure = str(fault)
        return False
    return True


def _fallback(
    drafts: list[Draft], model: Model, source: Path, baseline: ModelReport, max_drop: float
) -> str:
    """What to write if nothing is better: the cleaned original, if that itself holds the budget.

    Exact passes still round differently, and some models turn that into another answer.
    """
    cleaned = next(draft for draft in drafts if draft.name == CLEANED)
    if cleaned.measured is not None and cleaned.measured.score.drop <= max_drop:
        return CLEANED
    unchanged = Draft(UNCHANGED, Recipe(()), model=model, path=source)
    unchanged.measured = replace(baseline, name=UNCHANGED)
    drafts.append(unchanged)
    return UNCHANGED


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


def _notes(chosen: Draft, max_drop: float) -> tuple[str, ...]:
    """What the reader should know before relying on the numbers."""
    notes = []
    assert chosen.measured is not None and chosen.model is not None
    worst = chosen.measured.score.drop_interval[1]
    if chosen.measured.score.drop <= max_drop < worst:
        notes.append(
            f"the drop may be as large as {worst:.4g} (95 % interval), over the budget of "
            f"{max_drop:.4g}; more samples would tell"
        )
    entrances = {node.name for tensor in chosen.model.graph.inputs for node in tensor.outputs}
    unfused = [name for name in chosen.measured.surviving_qdq if name not in entrances]
    if unfused:
        more = f" and {len(unfused) - 3} more" if len(unfused) > 3 else ""
        names = ", ".join(unfused[:3])
        notes.append(f"onnxruntime does not fuse these into integer kernels: {names}{more}")
    return tuple(notes)


def _portability(model: Model, risks: Sequence[SaturationRisk]) -> tuple[str, ...]:
    """What x86 processors without VNNI make of the integer nodes, if there are any."""
    products = len(integer_products(model))
    if not products:
        return ()
    if not risks:
        return ("int8 sums fit on x86 without VNNI too: the same accuracy is to be expected there",)
    worst = max(risks, key=lambda risk: risk.worst)
    return (
        f"on x86 without VNNI sums of two products can saturate in {len(risks)} of {products} int8 "
        f"nodes (at worst {worst.worst:.2f} times what an int16 holds, in {worst.node!r}): measure "
        "there, or use --target portable",
    )
