"""Candidates on their way: built by passes, saved, measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnxcompress.errors import OnnxCompressError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import PassReport
from onnxcompress.pass_manager import OnError, PassManager
from onnxcompress.progress import Progress
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import CandidateReport, ModelReport, Status
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.search.candidates import CANDIDATES, CLEAN_UP, CLEANED, Goal, traits_of
from onnxcompress.search.choice import Choice

RECIPE = "recipe"
"""The candidate that a given recipe makes."""


@dataclass
class Draft:
    """A candidate.

    Attributes:
        name: what the report calls it.
        recipe: its passes, clean-up included.
        passes: what each of them did.
        unfit: why it was not tried, if it was not.
        failure: why it could not be built, if it could not.
        model: the result.
        path: where the result was saved, to be measured as a user would load it.
        measured: how it did.
    """

    name: str
    recipe: Recipe
    passes: tuple[PassReport, ...] = ()
    failure: str | None = None
    unfit: str | None = None
    model: Model | None = None
    path: Path | None = None
    measured: ModelReport | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether no pass changed anything."""
        return not any(report.modified for report in self.passes)

    def report(self, choice: Choice) -> CandidateReport:
        """What became of it."""
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


def by_recipe(model: Model, recipe: Recipe, context: RuntimeContext, folder: Path) -> Draft:
    """Runs a given recipe; a failing pass is the caller's to know."""
    draft = Draft(RECIPE, recipe, model=clone(model))
    assert draft.model is not None
    draft.passes = tuple(PassManager(recipe.passes).run(draft.model, context))
    _save(draft, folder)
    return draft


def by_search(
    model: Model, context: RuntimeContext, goal: Goal, folder: Path, progress: Progress
) -> Iterator[Draft]:
    """Cleans the model up, then builds each candidate that fits it from the cleaned one."""
    traits = traits_of(model, has_data=context.data is not None, goal=goal)
    advance = progress.stage("Building candidates")
    cleaned = Draft(CLEANED, Recipe(CLEAN_UP), model=clone(model))
    assert cleaned.model is not None
    manager = PassManager(CLEAN_UP, on_error=OnError.SKIP)
    cleaned.passes = tuple(manager.run(cleaned.model, context))
    _save(cleaned, folder)
    yield cleaned
    for done, candidate in enumerate(CANDIDATES, 1):
        recipe = Recipe((*CLEAN_UP, *candidate.recipe.passes))
        draft = Draft(candidate.name, recipe, unfit=candidate.unfit(traits))
        if draft.unfit is None:
            draft.model = clone(cleaned.model)
            try:
                reports = PassManager(candidate.recipe.passes).run(draft.model, context)
                draft.passes = (*cleaned.passes, *reports)
                if any(report.modified for report in reports):
                    _save(draft, folder)
                else:
                    draft.unfit = "its passes found nothing to change"
            except OnnxCompressError as fault:
                draft.failure = str(fault)
        advance(done, len(CANDIDATES))
        yield draft


def _save(draft: Draft, folder: Path) -> None:
    assert draft.model is not None
    path = folder / f"{draft.name}.onnx"
    io.save(draft.model, path)
    draft.path = path
