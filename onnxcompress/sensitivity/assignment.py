"""Chooses a precision for each unit, under a budget, and writes the choice as a recipe.

Errors of different units add up, so that a multiple-choice knapsack tells what is best: one choice
for each unit, the sum of noise or of bytes bounded, the other least.
"""

from __future__ import annotations

import glob
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxcompress.api_errors import own_errors
from onnxcompress.errors import OnnxCompressError, RecipeError
from onnxcompress.pass_base import Override, Pass
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import SensitivityReport
from onnxcompress.sensitivity.units import IN_BODY

FLOAT = "float"
"""The choice to leave a unit as it is."""

_GAP = 1e-6
"""How far from the best the solver may stop, relative."""

_FINE = 0.1
"""A total of this many units of cost or more is told exactly enough."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A precision for each unit.

    Attributes:
        precisions: by node name: the name of a precision of the report, or `FLOAT`.
        bytes: of the model file, as far as it can be told beforehand.
        noise: power of the output's error over power of the output, if errors add up.
        recipe: the passes that do it, clean-up included.
    """

    precisions: dict[str, str]
    bytes: int
    noise: float
    recipe: Recipe

    @property
    def sqnr(self) -> float:
        """The noise in dB; infinite if nothing is quantized."""
        return -10 * math.log10(self.noise) if self.noise > 0 else math.inf


@dataclass(frozen=True)
class _Choice:
    """One way to treat one unit; `precision` is None to leave it float."""

    unit: int
    precision: int | None
    noise: float
    bytes: int


@own_errors
def assign(
    report: SensitivityReport, *, max_bytes: int | None = None, min_sqnr: float | None = None
) -> Assignment:
    """Chooses the least noise within a size, or the least size within a noise.

    Args:
        report: the damage of each precision to each unit.
        max_bytes: the largest model file.
        min_sqnr: the least signal-to-noise ratio of the output, in dB. Give one of the two.

    Raises:
        RecipeError: no choice keeps the budget, or the float model does; tells what can be reached.
            Or not one of the two was given.
        OnnxCompressError: SciPy, which solves it, is not installed.
    """
    if (max_bytes is None) == (min_sqnr is None):
        raise RecipeError("give max_bytes or min_sqnr, one of the two")
    choices = _choices(report)
    noise = np.array([each.noise for each in choices])
    size = np.array([float(each.bytes) for each in choices])
    if max_bytes is not None:
        chosen = _solve(choices, noise, size, float(max_bytes - report.clean_bytes))
    else:
        assert min_sqnr is not None
        chosen = _solve(choices, size, noise, 10 ** (-min_sqnr / 10))
    if chosen is None:
        raise RecipeError(_out_of_reach(report, choices, max_bytes, min_sqnr))
    if all(each.precision is None for each in chosen):
        kept = "the float model keeps this size" if max_bytes else f"{min_sqnr} dB leave all float"
        raise RecipeError(f"{kept}, so there is nothing to assign; ask for less")
    return Assignment(
        precisions={
            name: FLOAT if each.precision is None else report.precisions[each.precision].name
            for each in chosen
            for name in report.units[each.unit].nodes
        },
        bytes=report.clean_bytes + sum(each.bytes for each in chosen),
        noise=sum(each.noise for each in chosen),
        recipe=_recipe(report, chosen),
    )


def _choices(report: SensitivityReport) -> list[_Choice]:
    """What may be done to each unit: a precision that broke its outputs may not."""
    choices = []
    for index, unit in enumerate(report.units):
        choices.append(_Choice(index, None, 0.0, 0))
        for precision, damage in enumerate(unit.damage):
            if damage.noise is not None and damage.bytes is not None:
                choices.append(_Choice(index, precision, damage.noise, damage.bytes))
    return choices


def _solve(
    choices: Sequence[_Choice], cost: np.ndarray, bounded: np.ndarray, limit: float
) -> list[_Choice] | None:
    """The choices of least cost whose `bounded` sums up to `limit` at most; None if none do."""
    kept = np.arange(len(choices))
    if not choices:
        return [] if limit >= 0 else None
    units = np.array([each.unit for each in choices])
    scale = float(np.abs(cost).max()) or 1.0
    while True:
        taken = _milp(units[kept], cost[kept] / scale, bounded[kept], limit)
        if taken is None:
            return None
        found = kept[taken]
        total = float(np.abs(cost[found].sum()))
        if total == 0 or total > _FINE * scale:
            return [choices[index] for index in found]
        # Noise spans many powers of ten and the solver stops within an absolute gap, so it is asked
        # again in a finer unit, without what alone would cost more than all that it found.
        kept, scale = kept[cost[kept] <= total], total


def _milp(
    units: np.ndarray, cost: np.ndarray, bounded: np.ndarray, limit: float
) -> np.ndarray | None:
    """Takes one of each unit's choices; True where a choice is taken. None if none will do."""
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array
    except ImportError as fault:
        raise OnnxCompressError(
            "choosing precisions takes SciPy's solver; pip install 'onnxcompress[solver]'"
        ) from fault
    ones = np.ones(len(units))
    # The solver's tolerances are absolute: the limit is brought to 1.
    weight = abs(limit) or 1.0
    found = milp(
        cost,
        integrality=ones,
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(csr_array((ones, (units, np.arange(len(units))))), 1, 1),
            LinearConstraint(csr_array((bounded / weight)[None]), -np.inf, limit / weight),
        ],
        options={"mip_rel_gap": _GAP},
    )
    return None if found.x is None else np.asarray(found.x > 0.5)


def _out_of_reach(
    report: SensitivityReport,
    choices: Sequence[_Choice],
    max_bytes: int | None,
    min_sqnr: float | None,
) -> str:
    if max_bytes is None:
        return f"no choice keeps {min_sqnr} dB; ask for less"
    least = {each.unit: 0 for each in choices}
    for each in choices:
        least[each.unit] = min(least[each.unit], each.bytes)
    smallest = report.clean_bytes + sum(least.values())
    return (
        f"{max_bytes} bytes cannot be reached: with the smallest precision everywhere the model "
        f"takes {smallest} ({smallest / report.file_bytes:.1%} of the original); ask for more, or "
        "measure sensitivity to fewer bits"
    )


def _recipe(report: SensitivityReport, chosen: Sequence[_Choice]) -> Recipe:
    """Clean-up, then each pass once: the precision it is most used at, the others as overrides."""
    passes = [Recipe.parse(each.recipe).passes[0] for each in report.precisions]
    in_bodies = tuple(s.node for s in report.skipped if s.reason == IN_BODY)
    names: dict[int | None, list[str]] = {}
    for each in chosen:
        names.setdefault(each.precision, []).extend(report.units[each.unit].nodes)
    written: list[Pass] = []
    for kind in dict.fromkeys(type(each) for each in passes):
        mine = [i for i, each in enumerate(passes) if type(each) is kind and i in names]
        if not mine:
            continue
        ((main, _),) = Counter({i: len(names[i]) for i in mine}).most_common(1)
        others = [
            Override(replace(passes[i], overrides=()), nodes=_literal(names[i]))
            for i in mine
            if i != main
        ]
        left = [name for i, each in names.items() if i not in mine for name in each]
        if left or in_bodies:
            others.append(Override(None, nodes=_literal([*left, *in_bodies])))
        base = passes[main]
        written.append(replace(base, overrides=(*others, *base.overrides)))
    return Recipe((*clean_up(report), *written))


def clean_up(report: SensitivityReport) -> tuple[Pass, ...]:
    """The passes that ran before sensitivity was measured."""
    return Recipe.parse(report.clean_up).passes if report.clean_up else ()


def _literal(names: Sequence[str]) -> tuple[str, ...]:
    """Patterns that mean these nodes and no others."""
    return tuple(glob.escape(name) for name in names)
