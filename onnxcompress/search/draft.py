"""Candidates on their way: built by passes, saved, measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxcompress.errors import OnnxCompressError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Pass, PassReport
from onnxcompress.pass_manager import OnError, PassManager
from onnxcompress.passes import ConvertFloat, UseFloat32
from onnxcompress.passes.convert_float import SmallFloat
from onnxcompress.progress import Progress
from onnxcompress.qdq.other_floats import floats_of_weights
from onnxcompress.qdq.weight_forms import rows_of_largest_product
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import CandidateReport, ModelReport, Status
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.search.candidates import CANDIDATES, CLEAN_UP, CLEANED, Candidate, Traits
from onnxcompress.search.choice import Choice

FLOAT32 = "float32"
"""The candidate that computes in float32 what the model computes in another float."""

_AS_FLOAT32 = Candidate(name=FLOAT32, recipe=Recipe(()), unfit=lambda _: None)

_MOST_GROWTH = 1.01
"""Biases and scales stay float32, which is little beside the weights."""

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


def cleaned_up(model: Model, context: RuntimeContext, folder: Path) -> Draft:
    """The candidate that is cleaned up and nothing else."""
    cleaned = _exactly(CLEANED, CLEAN_UP, model, context)
    assert cleaned.model is not None
    cleaned.path = save(cleaned.model, folder / f"{CLEANED}.onnx")
    return cleaned


def start_of(model: Model, cleaned: Draft, context: RuntimeContext) -> Draft:
    """What candidates start from: the cleaned model, in float32 if its weights are other floats."""
    if not floats_of_weights(model):
        return cleaned
    start = _exactly(FLOAT32, (UseFloat32(), *CLEAN_UP), model, context)
    failed = next((report for report in start.passes if report.error), None)
    return cleaned if failed is not None and failed.name == UseFloat32.name else start


def by_search(
    model: Model,
    start: Draft,
    traits: Traits,
    context: RuntimeContext,
    folder: Path,
    progress: Progress,
) -> Iterator[Draft]:
    """Builds each candidate that fits from `start`.

    Where that is in float32 and the model is not, what a candidate leaves of the weights is stored
    as small as it was.
    """
    advance = progress.stage("Building candidates")
    assert start.model is not None
    rest = _stored_as_in(model) if start.name == FLOAT32 else ()
    most = _most_bytes(model) if start.name == FLOAT32 else math.inf
    traits = replace(traits, product_rows=rows_of_largest_product(start.model, context))
    candidates = CANDIDATES if start.name == CLEANED else (_AS_FLOAT32, *CANDIDATES)
    for done, candidate in enumerate(candidates, 1):
        passes = (*candidate.recipe.passes, *rest)
        recipe = Recipe((*start.recipe.passes, *passes), context.release)
        draft = Draft(candidate.name, recipe, unfit=candidate.unfit(traits))
        if draft.unfit is None:
            draft.model = clone(start.model)
            try:
                reports = PassManager(passes).run(draft.model, context)
                draft.passes = (*start.passes, *reports)
                draft.unfit = _in_vain(candidate, reports) or _grown(draft.model, most)
                if draft.unfit is None:
                    draft.path = save(draft.model, folder / f"{draft.name}.onnx")
            except OnnxCompressError as fault:
                draft.failure = str(fault)
        advance(done, len(candidates))
        yield draft


def _exactly(name: str, passes: tuple[Pass, ...], model: Model, context: RuntimeContext) -> Draft:
    """The model after passes, those left out that fail."""
    draft = Draft(name, Recipe(passes, context.release), model=clone(model))
    assert draft.model is not None
    draft.passes = tuple(PassManager(passes, on_error=OnError.SKIP).run(draft.model, context))
    return draft


def _stored_as_in(model: Model) -> tuple[Pass, ...]:
    small = {np.dtype(dtype.value): dtype for dtype in (SmallFloat.FLOAT16, SmallFloat.BFLOAT16)}
    found = [small[dtype] for dtype in sorted(floats_of_weights(model), key=str) if dtype in small]
    return tuple(ConvertFloat(dtype=dtype) for dtype in found[:1])


def _in_vain(candidate: Candidate, reports: Sequence[PassReport]) -> str | None:
    """That a candidate's passes changed nothing, with the reason that they gave most often."""
    own = reports[: len(candidate.recipe.passes)]
    if not own or any(report.modified for report in own):
        return None
    told = Counter(skip.reason for report in own for skip in report.skips)
    because = f": {told.most_common(1)[0][0]}" if told else ""
    return f"its passes found nothing to change{because}"


def _most_bytes(model: Model) -> float:
    return _MOST_GROWTH * model.weight_bytes


def _grown(model: Model, most: float) -> str | None:
    if model.weight_bytes <= most:
        return None
    return f"its weights would take {model.weight_bytes} bytes, more than the model's"


def save(model: Model, path: Path) -> Path:
    """Writes a candidate to be measured as a user would load it; returns `path`."""
    io.save(model, path)
    return path
