"""Candidates on their way: built by passes, saved, measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from onnxcompress.errors import OnnxCompressError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import PassReport
from onnxcompress.pass_manager import OnError, PassManager
from onnxcompress.progress import Progress
from onnxcompress.qdq.weight_forms import rows_of_largest_product
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import CandidateReport, ModelReport, Status
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.search.candidates import CANDIDATES, CLEAN_UP, CLEANED, Traits
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
        over_budget: how it failed a test on samples set aside, if it did; it is not measured then.
        remark: what else is to be known of one that was built.
        model: the result.
        path: where the result was saved, to be measured as a user would load it.
        measured: how it did.
    """

    name: str
    recipe: Recipe
    passes: tuple[PassReport, ...] = ()
    failure: str | None = None
    unfit: str | None = None
    over_budget: str | None = None
    remark: str | None = None
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
        elif self.over_budget is not None:
            status, reason = Status.OVER_BUDGET, self.over_budget
        else:
            status, reason = choice.statuses[self.name]
        return CandidateReport(
            name=self.name,
            status=status,
            reason="; ".join(filter(None, (reason, self.remark))),
            recipe=self.recipe.dump(),
            passes=self.passes,
            model=self.measured,
        )


def by_recipe(model: Model, recipe: Recipe, context: RuntimeContext, folder: Path) -> Draft:
    """Runs a given recipe; a failing pass is the caller's to know."""
    draft = Draft(RECIPE, recipe, model=clone(model))
    assert draft.model is not None
    draft.passes = tuple(PassManager(recipe.passes).run(draft.model, context))
    draft.path = save(draft.model, folder / f"{draft.name}.onnx")
    return draft


def by_search(
    model: Model, traits: Traits, context: RuntimeContext, folder: Path, progress: Progress
) -> Iterator[Draft]:
    """Cleans the model up, then builds each candidate that fits it from the cleaned one."""
    advance = progress.stage("Building candidates")
    cleaned = Draft(CLEANED, Recipe(CLEAN_UP), model=clone(model))
    assert cleaned.model is not None
    manager = PassManager(CLEAN_UP, on_error=OnError.SKIP)
    cleaned.passes = tuple(manager.run(cleaned.model, context))
    cleaned.path = save(cleaned.model, folder / f"{CLEANED}.onnx")
    yield cleaned
    traits = replace(traits, product_rows=rows_of_largest_product(cleaned.model, context))
    for done, candidate in enumerate(CANDIDATES, 1):
        recipe = Recipe((*CLEAN_UP, *candidate.recipe.passes))
        draft = Draft(candidate.name, recipe, unfit=candidate.unfit(traits))
        if draft.unfit is None:
            draft.model = clone(cleaned.model)
            try:
                reports = PassManager(candidate.recipe.passes).run(draft.model, context)
                draft.passes = (*cleaned.passes, *reports)
                if any(report.modified for report in reports):
                    draft.path = save(draft.model, folder / f"{draft.name}.onnx")
                else:
                    draft.unfit = "its passes found nothing to change"
            except OnnxCompressError as fault:
                draft.failure = str(fault)
        advance(done, len(CANDIDATES))
        yield draft


def save(model: Model, path: Path) -> Path:
    """Writes a candidate to be measured as a user would load it; returns `path`."""
    io.save(model, path)
    return path
