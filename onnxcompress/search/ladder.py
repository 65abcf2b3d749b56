"""Pruned candidates: each rung takes more away, as long as the one before it held the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from onnxcompress.budget import Budget
from onnxcompress.channels.amount import TOO_MUCH
from onnxcompress.channels.costs import Measure
from onnxcompress.channels.groups import find_groups
from onnxcompress.channels.selection import Scope
from onnxcompress.errors import OnnxCompressError, PassError, SessionError
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.judging.score import Score, Verdict
from onnxcompress.measure.macs import cost_by_op
from onnxcompress.measure.size import file_bytes
from onnxcompress.pass_base import Pass, PassReport
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneChannels, RefitWeights, StripPruned
from onnxcompress.progress import Advance
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.recipe import Recipe
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.search.candidates import CLEAN_UP, Goal, Traits
from onnxcompress.search.choice import drop_beside
from onnxcompress.search.draft import Draft, save
from onnxcompress.search.judge import Judge
from onnxcompress.search.samples import Samples

AMOUNTS = (0.3, 0.5)
"""Shares of the multiply-accumulates that rungs take away."""

SECONDS = 300.0
"""What all rungs together may take."""

FEWEST_SAMPLES = 50
"""Samples to choose by, which rungs are tested on."""

_MOST_WEIGHTS = 50_000_000
"""Elements in weights of matrix products that `SECONDS` are enough for on a small machine."""

_LEAST_SHARE = 0.5
"""Of the multiply-accumulates, in matrix products; convolutions gain nothing beside int8."""

_SECONDS_TO_CHOOSE = 3.0
"""For each quantized model that is timed."""

_PRODUCTS = ("MatMul", "Gemm")

NOTHING_GOES = "none of its channels, heads or neurons can go; `inspect --groups` says why"

Test = Callable[[Path, str], Score]
"""Judges a model file; also told what to call it."""


def pruned_by(amount: float) -> tuple[Pass, ...]:
    """The passes of a rung, before those that quantize."""
    prune = PruneChannels(
        criterion=Criterion.SECOND_ORDER, scope=Scope.GLOBAL, target=Measure.MACS, amount=amount
    )
    return (prune, RefitWeights(), StripPruned())


def unfit(model: Model, traits: Traits, samples: Samples, context: RuntimeContext) -> str | None:
    """Why a model is not pruned unless a recipe says so; None if it is worth trying.

    Args:
        model: as it was loaded.
        traits: its traits.
        samples: there have to be enough to fit and to test on.
        context: lends tensor types.

    Raises:
        SessionError: the model does not run on the data.
    """
    if samples.calibration is None:
        return "needs data (--data): what stays is fitted to it"
    if traits.product_weights > _MOST_WEIGHTS:
        return (
            f"{traits.product_weights:,} weights of matrix products take longer than the "
            f"{SECONDS:.0f} s that the search has for it; a recipe can ask for it"
        )
    costs = {each.op: each.macs for each in cost_by_op(model, context.types(model))}
    share = sum(costs.get(op, 0) for op in _PRODUCTS) / max(sum(costs.values()), 1)
    if share < _LEAST_SHARE:
        return (
            f"matrix products do {share:.0%} of the multiply-accumulates, and other nodes gain "
            "too little from it beside int8; a recipe can ask for it"
        )
    choosing = len(samples.choosing)
    if not samples.are_separate or choosing < FEWEST_SAMPLES:
        return f"{choosing} samples are too few to choose by ({FEWEST_SAMPLES} are enough)"
    return None


def best_quantized(drafts: Sequence[Draft], judge: Judge, budget: Budget, goal: Goal) -> Draft:
    """The candidate that pruned models are quantized like: the best that holds the budget.

    Args:
        drafts: the cleaned candidate first.
        judge: of the samples set aside for tests.
        budget: what a result may cost.
        goal: what is best.
    """
    cleaned, *others = drafts
    built = [(draft, draft.path) for draft in others if draft.path is not None]
    try:
        gains = _gains([path for _, path in built], judge, goal)
    except SessionError:  # the last judge of the result will say which
        return cleaned
    for index in sorted(range(len(built)), key=lambda index: -gains[index]):
        draft, path = built[index]
        with suppress(SessionError):
            if judge.score(path, draft.name).verdict(budget) is not Verdict.FAILED:
                return draft
    return cleaned


def _gains(paths: Sequence[Path], judge: Judge, goal: Goal) -> list[float]:
    if goal is Goal.SIZE:
        return [-float(file_bytes(path)) for path in paths]
    latencies = judge.latencies(paths, _SECONDS_TO_CHOOSE) if paths else []
    return [each.speedup for each in latencies[1:]]


def untried(reason: str) -> list[Draft]:
    """All rungs, none of them built."""
    return [_draft(amount, (), reason) for amount in AMOUNTS]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Builds pruned candidates and tests each before it goes on.

    Attributes:
        start: what is pruned.
        quantized: what pruned models are quantized like: the best candidate that was not pruned.
        context: for the passes.
        folder: for the models.
        test: judges a rung, on samples that no pass saw and that do not judge the result.
        budget: what a result may cost.
        clock: seconds from any start.
    """

    start: Draft
    quantized: Draft
    context: RuntimeContext
    folder: Path
    test: Test
    budget: Budget
    clock: Callable[[], float] = time.monotonic

    def climb(self, advance: Advance) -> Iterator[Draft]:
        """Yields a draft for every rung; those behind a rung that fell were not built."""
        began, reason, slowest = self.clock(), "", 0.0
        for done, amount in enumerate(AMOUNTS):
            advance(done, len(AMOUNTS))
            start = self.clock()
            if not reason and start - began + slowest > SECONDS:
                reason = f"the {SECONDS:.0f} s that the search has for pruning would not be enough"
            if reason:
                yield _draft(amount, (), reason)
                continue
            draft = self._built(amount, began + SECONDS)
            reason = _why_last(draft)
            slowest = max(slowest, self.clock() - start)
            yield draft
        advance(len(AMOUNTS), len(AMOUNTS))

    def _built(self, amount: float, end: float) -> Draft:
        first = self.start.recipe.passes
        passes = (*pruned_by(amount), *self.quantized.recipe.passes[len(first) :])
        draft = _draft(amount, passes, first=first)
        draft.recipe = replace(draft.recipe, runtime=self.context.release)
        assert self.start.model is not None
        draft.model = clone(self.start.model)
        try:
            reports = PassManager(passes).run(draft.model, self.context.telling(self._until(end)))
            draft.passes = (*self.start.passes, *reports)
            draft.remark = _shortfall(reports)
            path = save(draft.model, self.folder / f"{draft.name}.onnx")
            score = self.test(path, draft.name)
        except OnnxCompressError as fault:
            if self.clock() > end:
                draft.unfit = f"it was not done within the {SECONDS:.0f} s that the search has"
            elif not find_groups(self.start.model, self.context).groups:
                draft.unfit = NOTHING_GOES
            else:
                draft.failure = str(fault)
            return draft
        if score.verdict(self.budget) is not Verdict.FAILED:
            draft.path = path
        else:
            said = drop_beside(score, self.budget)
            draft.over_budget = f"{said}, on the samples that choose"
        return draft

    def _until(self, end: float) -> Advance:
        """Told of every batch of data; the only place where a pass can be stopped."""

        def advance(done: int, total: int) -> None:
            del done, total
            if self.clock() > end:
                raise PassError("out of time")

        return advance


def _why_last(draft: Draft) -> str:
    """Why the rung behind one is not built; empty if it is."""
    if draft.path is None:
        if draft.unfit == NOTHING_GOES:
            return NOTHING_GOES
        outcome = "failed" if draft.failure else "is over the budget"
        outcome = "took too long" if draft.unfit else outcome
        return f"{draft.name}, which takes less away, {outcome}"
    return f"{draft.name} took all that can go" if draft.remark else ""


def _shortfall(reports: Sequence[PassReport]) -> str | None:
    """That less can go than was asked for, and went, in the words of the pass that found it."""
    details = (change.detail for report in reports for change in report.changes)
    return next((each.partition("; ")[2] for each in details if TOO_MUCH in each), None)


def _draft(
    amount: float,
    passes: Sequence[Pass],
    unfit: str | None = None,
    first: Sequence[Pass] = CLEAN_UP,
) -> Draft:
    recipe = Recipe((*first, *(passes or pruned_by(amount))))
    return Draft(_name(amount), recipe, unfit=unfit)


def _name(amount: float) -> str:
    return f"pruned-{amount:.0%}".removesuffix("%")
