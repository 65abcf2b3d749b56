"""Pruning in rounds: take some away, make up for it, test, and go on while the budget holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.judging.score import Score, Verdict
from onnxcompress.measure.size import file_bytes
from onnxcompress.measure.zeros import zero_share
from onnxcompress.pass_base import Pass, PassReport
from onnxcompress.pass_manager import PassManager
from onnxcompress.progress import Progress
from onnxcompress.report.schema import RoundReport
from onnxcompress.runtime.calibration import fingerprint
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.search.checkpoint import Checkpoints, Question, Round
from onnxcompress.search.draft import RECIPE, Draft
from onnxcompress.search.schedule import Plan

Test = Callable[[Path, str], Score]
"""Judges a model file; also told what to call it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of the rounds.

    Attributes:
        draft: the last round that held the budget, finished; without one, the model unpruned.
        kept: its number, 0 for the model unpruned.
        rounds: how each did when it was tested.
        question: what was asked.
    """

    draft: Draft
    kept: int
    rounds: tuple[RoundReport, ...]
    question: Question

    @property
    def notes(self) -> tuple[str, ...]:
        """Why fewer rounds were run, or kept, than there were to be."""
        last = self.rounds[-1]
        if last.held:
            return ()
        outcome = f"round {self.kept} was kept"
        if self.kept == 0:
            outcome = "no round held the budget, so what was written is not pruned"
        return (
            f"round {last.number} of {len(self.question.shares)} dropped {last.drop:.3g}, over "
            f"{self.question.budget}: {outcome}",
        )


class Rounds:
    """Runs a plan round by round.

    What a round left is always read from its file, whether it was written a moment or a week ago,
    so that a run that was resumed ends in the same bytes.

    Args:
        plan: what is run.
        checkpoints: keeps the rounds; those in it are not run again. Its question says how many
            there are to be, what share of the plan's amounts is gone after each, and the budget:
            the first round beyond it is the last.
        context: for the passes.
        folder: for finished models.
        progress: told how it gets on.
    """

    def __init__(
        self,
        plan: Plan,
        checkpoints: Checkpoints,
        context: RuntimeContext,
        *,
        folder: Path,
        progress: Progress,
    ):
        self._plan = plan
        self._shares = checkpoints.question.shares
        self._budget = checkpoints.question.budget
        self._checkpoints = checkpoints
        self._context = context.setting_aside(plan.recipe.passes)
        self._folder = folder
        self._progress = progress

    def run(self, model: Model, test: Test) -> Outcome:
        """Runs the rounds that are not complete yet, and finishes the last that held the budget.

        Args:
            model: the original; it is not changed.
            test: judges a finished model, on samples that no pass saw and that judge nothing else.

        Raises:
            PassError: a pass failed; complete rounds are kept.
            SessionError: a finished model does not run.
            CheckpointError: a checkpoint was changed or damaged.
            OutputError: a checkpoint cannot be written.
        """
        prepared = clone(model)
        before = self._prepare(prepared)
        finished: Draft | None = None
        while self._goes_on():
            number = len(self._checkpoints.rounds) + 1
            start = clone(prepared) if number == 1 else self._checkpoints.load(number - 1)
            draft, held = self._round(number, start, test)
            finished = draft if held else finished
        rounds = tuple(each.report for each in self._checkpoints.rounds)
        kept = max((each.number for each in rounds if each.held), default=0)
        if kept == 0:
            finished = self._finish(self._plan.unpruned(), prepared, 0)
        elif finished is None:  # it was complete before this run
            plan = self._plan.at(self._shares[kept - 1])
            finished = self._finish(plan, self._checkpoints.load(kept), kept)
        assert finished is not None
        between = [each for done in self._checkpoints.rounds[:kept] for each in done.passes]
        finished.passes = (*before, *between, *finished.passes)
        return Outcome(
            draft=finished, kept=kept, rounds=rounds, question=self._checkpoints.question
        )

    def _prepare(self, model: Model) -> list[PassReport]:
        """Runs what comes before the rounds; from then on the unpruned model is known."""
        passes = self._plan.prepare
        first = next((at for at, each in enumerate(passes) if each.prunes), len(passes))
        reports = self._passes(passes[:first], model)
        self._context = self._context.with_unpruned_model(clone(model))
        return reports + self._passes(passes[first:], model)

    def _goes_on(self) -> bool:
        done = self._checkpoints.rounds
        return len(done) < len(self._shares) and all(each.report.held for each in done)

    def _round(self, number: int, model: Model, test: Test) -> tuple[Draft, bool]:
        share = self._shares[number - 1]
        advance = self._progress.stage(f"Round {number} of {len(self._shares)}")
        advance(number - 1, len(self._shares))
        plan = self._plan.at(share)
        reports = self._passes(plan.repeat, model)
        advance(number, len(self._shares))
        model = self._checkpoints.save(number, model)
        draft = self._finish(plan, model, number)
        assert draft.model is not None and draft.path is not None
        score = test(draft.path, f"round {number}")
        report = RoundReport(
            number=number,
            share=share,
            zeros=zero_share(model),
            parameters=draft.model.parameters,
            file_bytes=file_bytes(draft.path),
            drop=score.drop,
            drop_interval=score.drop_interval,
            held=score.verdict(self._budget) is not Verdict.FAILED,
            changed=any(each.modified for each in reports),
        )
        done = Round(model=fingerprint(model), passes=tuple(reports), report=report)
        self._checkpoints.add(done)
        return draft, report.held

    def _finish(self, plan: Plan, model: Model, number: int) -> Draft:
        recipe = replace(plan.recipe, runtime=self._context.release)
        draft = Draft(RECIPE, recipe, model=clone(model))
        assert draft.model is not None
        draft.passes = tuple(self._passes(plan.finish, draft.model))
        draft.path = self._folder / f"finished-{number}.onnx"
        io.save(draft.model, draft.path)
        return draft

    def _passes(self, passes: Sequence[Pass], model: Model) -> list[PassReport]:
        return PassManager(passes).run(model, self._context) if passes else []
