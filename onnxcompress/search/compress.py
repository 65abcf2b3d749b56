"""The main job: try what makes sense, measure it, write the best that holds the budget."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from onnxcompress.api_errors import own_errors
from onnxcompress.budget import Budget
from onnxcompress.data.given_shapes import Shapes
from onnxcompress.data.splitting import Shares
from onnxcompress.errors import ModelError, RecipeError, SessionError
from onnxcompress.files import check_outputs, require_space
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.judging.question import Judged
from onnxcompress.judging.score import Verdict
from onnxcompress.leftovers import working_folder
from onnxcompress.measure.bootstrap import CONFIDENCE
from onnxcompress.measure.environment import environment
from onnxcompress.measure.metric import OwnMetric
from onnxcompress.measure.metrics import resolve_metric
from onnxcompress.measure.untrained import untrained_notes
from onnxcompress.measure.zeros import zero_notes
from onnxcompress.progress import Progress, Silent
from onnxcompress.qdq.saturation_risk import saturation_risks
from onnxcompress.recipe import Recipe
from onnxcompress.releases import Release, oldest_release, why_not_on
from onnxcompress.report.schema import (
    SCHEMA_VERSION,
    CompressReport,
    ModelReport,
)
from onnxcompress.runtime.calibration import fingerprint
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search import ladder
from onnxcompress.search.answer import write_answer
from onnxcompress.search.candidates import CLEANED, Goal, Traits, traits_of
from onnxcompress.search.checkpoint import Question, open_checkpoints
from onnxcompress.search.choice import Choice, choose, rank
from onnxcompress.search.draft import RECIPE, Draft, by_recipe, by_search, cleaned_up, start_of
from onnxcompress.search.judge import Judge
from onnxcompress.search.ladder import Ladder
from onnxcompress.search.remarks import (
    fusion_notes,
    made_up_budget,
    portability_notes,
    score_notes,
    sentence,
    too_few,
)
from onnxcompress.search.rounds import Rounds
from onnxcompress.search.samples import Samples, data_notes, load_samples
from onnxcompress.search.schedule import Iteration, Plan
from onnxcompress.target import Target

_CANDIDATES = 3

UNCHANGED = "unchanged"
"""The original itself, where even cleaning it up costs more than the budget."""


@own_errors
def compress(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    data: str | None = None,
    training: str | None = None,
    metric: str | OwnMetric | None = None,
    max_drop: float = 0.01,
    keep: float | None = None,
    confidence: float | None = None,
    judge_outputs: Sequence[tuple[str, str | None]] = (),
    split: Shares | str | None = None,
    group_by: str | None = None,
    shapes: Shapes | None = None,
    recipe: Recipe | None = None,
    iteration: Iteration | None = None,
    goal: Goal = Goal.SPEED,
    target: Target | None = None,
    runtime: str | Release | None = None,
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
        metric: one of `measure.metrics.METRICS`, `module:function`, or a function that takes the
            outputs by name and the labels and gives a number of which more is better; None chooses
            for each output by what it says and by the labels.
        max_drop: the budget: the largest drop of any output, see `measure.metrics`.
        keep: instead of `max_drop`, the least share of the original's metric that is left.
        confidence: of the intervals; the result must then be proved: its whole interval within the
            budget. None for 0.95, and it is enough that the estimate holds.
        judge_outputs: the outputs to judge, each with a kind or metric, or None for what suits it;
            without any, all are judged.
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
        runtime: the oldest onnxruntime that the result must load on, such as `1.16`; None for what
            the recipe says, or for the installed one alone.
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
    release = Release.parse(runtime) if isinstance(runtime, str) else runtime
    if recipe is not None:
        release = release or recipe.runtime
        recipe = replace(recipe, runtime=release)
    plan = _plan(recipe, iteration)
    budget = Budget.of(max_drop, keep)
    judged = tuple(Judged.of(*each) for each in judge_outputs)
    loaded = io.load(source)
    table = Path(calibration_table) if calibration_table else None
    outputs = [output, io.data_file(output), *filter(None, [table])]
    check_outputs(outputs, [*loaded.files, *(Path(each) for each in (data, training) if each)])

    # Candidates that stay until one is chosen, and one that is being made.
    scratch = Path(tempfile.gettempdir())
    require_space(scratch, _CANDIDATES * loaded.weight_bytes, "temporary files (see TMPDIR)")
    require_space(output.parent, loaded.weight_bytes, "what is written")
    _require_loadable(loaded, source, release)
    samples = load_samples(
        data,
        Session(source),
        seed=seed,
        training=training,
        split=Shares.parse(split) if isinstance(split, str) else split,
        group_by=group_by,
        shapes=shapes,
    )
    context = RuntimeContext(
        samples.calibration,
        target=target,
        calibration=table,
        progress=progress.stage("Calibration"),
        training=samples.fit,
        choosing=samples.choosing if samples.are_separate else None,
        training_progress=partial(progress.stage, "Training"),
        shapes=shapes,
        release=release,
    )
    judge_on = partial(
        Judge,
        source,
        metric=resolve_metric(metric) if metric else None,
        judged=judged,
        made_up=data is None,
        confidence=confidence or CONFIDENCE,
        threads=threads,
        batch_size=batch_size,
        seed=seed,
        progress=progress,
    )
    final = judge_on(samples.judging)
    labelled = any(each.labelled for each in final.original.outputs)
    samples = replace(samples, report=replace(samples.report, labelled=labelled))
    choosing = final
    if samples.are_separate and (recipe is None or iteration is not None):
        choosing = judge_on(samples.choosing, like=final)
    if data is None:
        budget = made_up_budget(budget)
    for warning in too_few(final.original, budget, len(samples.judging), confidence):
        progress.warn(warning)
    with working_folder() as folder:
        outcome = None
        if plan is not None and iteration is not None:
            question = Question(
                version=environment(threads).onnxcompress,
                model=fingerprint(loaded),
                calibration=samples.calibration.fingerprint() if samples.calibration else None,
                training=samples.fit.fingerprint() if samples.fit else None,
                validation=samples.choosing.fingerprint(),
                recipe=plan.recipe.dump(),
                shares=iteration.shares,
                metric=final.metric,
                judged=tuple(f"{each}={how}" if how else each for each, how in judge_outputs),
                budget=budget,
                batch_size=batch_size,
                target=context.target.value,
                runtime=str(release) if release else None,
                seed=seed,
            )
            checkpoints = open_checkpoints(iteration, question, folder / "rounds")
            rounds = Rounds(plan, checkpoints, context, folder=folder, progress=progress)
            outcome = rounds.run(loaded, choosing.score)
            drafts = [outcome.draft]
        elif recipe is not None:
            drafts = [by_recipe(loaded, recipe, context, folder)]
        else:
            cleaned = cleaned_up(loaded, context, folder)
            start = start_of(loaded, cleaned, context)
            assert start.model is not None
            traits = traits_of(start.model, has_data=samples.calibration is not None, goal=goal)
            built = by_search(loaded, start, traits, context, folder, progress)
            drafts = [cleaned, *built]
            drafts += _pruned(start, traits, samples, drafts, choosing, budget, context, folder)
        # What a recipe made is not chosen among others, so all that is left is to judge it.
        measuring = final if recipe is not None else choosing
        baseline = _measure(drafts, measuring)
        fallback = RECIPE
        if recipe is None:
            fallback = _fallback(drafts, loaded, source, baseline, budget)
        measured = {draft.name: draft.measured for draft in drafts if draft.measured}
        untouched = [draft.name for draft in drafts if draft.is_untouched]
        by_name = {draft.name: draft for draft in drafts}
        choice = choose(
            rank(baseline, measured, budget, goal, untouched=untouched),
            lambda each: final.score(_path(by_name[each]), each),
            budget,
            must_be_proved=confidence is not None,
            fallback=fallback,
        )
        if measuring is not final:
            baseline = replace(baseline, score=final.original, chosen_by=baseline.score)
            _add_finals(by_name, choice)
        chosen = by_name[choice.name]
        assert chosen.model is not None and chosen.measured is not None
        _require_loadable(chosen.model, chosen.name, release)
        written = write_answer(chosen.model, output, _path(chosen), final.feed())
    risks = saturation_risks(chosen.model)
    proof = choice.verdict if data is not None else None
    return CompressReport(
        schema_version=SCHEMA_VERSION,
        input=str(source),
        output=str(output),
        written=tuple(str(path) for path in written),
        improved=choice.improved,
        verdict=sentence(
            baseline,
            chosen.measured,
            improved=choice.improved,
            asked=recipe is not None,
            proof=proof,
            samples=samples.report,
        ),
        metric=final.metric,
        max_drop=budget.allowed(
            chosen.measured.score.worst.reference_value,
            drop_is_relative=chosen.measured.score.worst.drop_is_relative,
        ),
        goal=goal.value,
        target=context.target.value,
        data=samples.report,
        environment=environment(threads),
        baseline=baseline,
        candidates=tuple(draft.report(choice) for draft in drafts),
        notes=(
            *loaded.notes,
            *untrained_notes(loaded),
            *data_notes(samples.report),
            *score_notes(chosen.measured.score, budget, len(samples.judging)),
            *fusion_notes(chosen.model, chosen.measured),
            *portability_notes(chosen.model, risks),
            *zero_notes(chosen.model),
            *(outcome.notes if outcome else ()),
        ),
        saturation=tuple(risks),
        rounds=outcome.rounds if outcome else (),
        kept_round=outcome.kept if outcome else None,
        proof=proof,
        confidence=confidence or CONFIDENCE,
        keep=keep,
        oldest_onnxruntime=chosen.measured.oldest_onnxruntime,
        runtime=str(release) if release else None,
    )


def _require_loadable(model: Model, name: str | Path, release: Release | None) -> None:
    """Checks that the onnxruntime that is asked for loads a model.

    Raises:
        ModelError: it does not; what it lacks is told.
    """
    reason = None if release is None else why_not_on(model, release)
    if reason is not None:
        raise ModelError(
            f"{name}: {reason}, so --runtime {release} cannot be had; export it for that version, "
            f"or ask for {oldest_release(model)}"
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


def _pruned(
    start: Draft,
    traits: Traits,
    samples: Samples,
    drafts: Sequence[Draft],
    judge: Judge,
    budget: Budget,
    context: RuntimeContext,
    folder: Path,
) -> Sequence[Draft]:
    """The candidates that are pruned, or why none is."""
    assert start.model is not None
    reason = ladder.unfit(start.model, traits, samples, context)
    if reason is not None:
        return ladder.untried(reason)
    rungs = Ladder(
        start=start,
        quantized=ladder.best_quantized(drafts, judge, budget, traits.goal),
        context=context,
        folder=folder,
        test=judge.score,
        budget=budget,
    )
    return list(rungs.climb(judge.progress.stage("Pruning")))


def _measure(drafts: Sequence[Draft], judge: Judge) -> ModelReport:
    """Measures every candidate that runs; returns the baseline's own figures."""
    built = [draft for draft in drafts if _runs(draft, judge)]
    latencies = judge.latencies([_path(draft) for draft in built])
    baseline = judge.report(judge.baseline, "original", latencies[0])
    for draft, latency in zip(built, latencies[1:], strict=True):
        draft.measured = judge.report(_path(draft), draft.name, latency)
    return baseline


def _path(draft: Draft) -> Path:
    assert draft.path is not None  # only what was built is measured
    return draft.path


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
    drafts: list[Draft], model: Model, source: Path, baseline: ModelReport, budget: Budget
) -> str:
    """What to write if nothing is better: the cleaned original, if that itself holds the budget.

    Exact passes still round differently, and some models turn that into another answer.
    """
    cleaned = next(draft for draft in drafts if draft.name == CLEANED)
    if (
        cleaned.measured is not None
        and cleaned.measured.score.verdict(budget) is not Verdict.FAILED
    ):
        return CLEANED
    unchanged = Draft(UNCHANGED, Recipe(()), model=model, path=source)
    unchanged.measured = replace(baseline, name=UNCHANGED)
    drafts.append(unchanged)
    return UNCHANGED


def _add_finals(drafts: Mapping[str, Draft], choice: Choice) -> None:
    """Puts what the samples that judge say in the place of what those said that chose."""
    for name, score in choice.finals.items():
        measured = drafts[name].measured
        assert measured is not None  # only what was measured is judged
        drafts[name].measured = replace(measured, score=score, chosen_by=measured.score)
