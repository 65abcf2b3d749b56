"""The best choice, found by trying all; recipes that do what was chosen."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.errors import OnnxCompressError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.edit import Skip
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PalettizeWeights, QuantizeWeights
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.report.schema import (
    SCHEMA_VERSION,
    Damage,
    DataReport,
    PrecisionReport,
    SensitivityReport,
    UnitReport,
)
from onnxcompress.runtime.session import Session
from onnxcompress.search.samples import load_samples
from onnxcompress.sensitivity.analysis import analyze_sensitivity
from onnxcompress.sensitivity.assignment import FLOAT, assign
from onnxcompress.sensitivity.units import IN_BODY
from tests.passes.support import sqnr

from .models import write

EIGHT, FOUR = (parse_pass(f"quantize-weights:bits={bits},min_elements=1") for bits in (8, 4))
PRECISIONS = {"bits=8": EIGHT, "bits=4": FOUR}


def report_of(*units: UnitReport, skipped: tuple[Skip, ...] = ()) -> SensitivityReport:
    """A report of 10,000 float bytes."""
    return SensitivityReport(
        schema_version=SCHEMA_VERSION,
        path="model.onnx",
        file_bytes=10_000,
        target="x86-vnni",
        data=DataReport(
            source=None, labelled=False, calibration_samples=0, evaluation_samples=1, caveat=None
        ),
        samples=1,
        metric=None,
        clean_up="",
        clean_bytes=10_000,
        precisions=tuple(
            PrecisionReport(
                name=name, recipe=Recipe.of([each]).dump(), noise=0.1, sqnr=10.0, bytes=1000
            )
            for name, each in PRECISIONS.items()
        ),
        units=units,
        skipped=skipped,
        notes=(),
    )


def unit(name: str, *damage: tuple[float | None, int] | None) -> UnitReport:
    """A unit with noise and bytes for each precision; None where it stays float."""
    return UnitReport(
        nodes=(name,),
        op="MatMul",
        weight=f"{name}.weight",
        parameters=100,
        damage=tuple(
            Damage(reason="too small") if each is None else Damage(noise=each[0], bytes=each[1])
            for each in damage
        ),
    )


def random_report(seed: int) -> SensitivityReport:
    rng = np.random.default_rng(seed)
    units = []
    for index in range(6):
        size = int(rng.integers(100, 2000))
        noise = 10 ** rng.uniform(-7, -2)
        units.append(unit(f"n{index}", (noise, -3 * size // 4), (300 * noise, -7 * size // 8)))
    return report_of(*units)


def every_choice(report: SensitivityReport) -> list[tuple[float, int]]:
    """Noise and bytes of all choices there are."""
    ways = [
        [(0.0, 0), *((d.noise or 0.0, d.bytes or 0) for d in each.damage)] for each in report.units
    ]
    return [
        (sum(noise for noise, _ in way), report.clean_bytes + sum(size for _, size in way))
        for way in itertools.product(*ways)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_no_choice_is_better(seed: int) -> None:
    report = random_report(seed)
    known = every_choice(report)
    smallest = min(size for _, size in known)
    for max_bytes in (smallest, (smallest + 10_000) // 2, 9_000, 9_900):
        found = assign(report, max_bytes=max_bytes)
        best = min(noise for noise, size in known if size <= max_bytes)
        assert found.bytes <= max_bytes
        assert found.noise == pytest.approx(best, rel=1e-4)
    for min_sqnr in (10.0, 25.0, 40.0, 50.0):
        found = assign(report, min_sqnr=min_sqnr)
        best_size = min(size for noise, size in known if noise <= 10 ** (-min_sqnr / 10))
        assert found.sqnr >= min_sqnr - 1e-3
        assert found.bytes == pytest.approx(best_size, rel=1e-4)


def test_a_size_out_of_reach_tells_the_smallest() -> None:
    report = report_of(unit("a", (1e-4, -750), (1e-2, -875)))
    with pytest.raises(RecipeError, match=r"takes 9125 \(91.2% of the original\)"):
        assign(report, max_bytes=9_000)


def test_a_budget_that_the_float_model_keeps_is_no_task() -> None:
    with pytest.raises(RecipeError, match="ask for less"):
        assign(random_report(0), max_bytes=10_000)
    with pytest.raises(RecipeError, match=r"99 dB leave all float"):
        assign(random_report(0), min_sqnr=99)


def test_a_precision_that_broke_the_outputs_is_not_chosen() -> None:
    report = report_of(unit("a", (1e-4, -750), (None, -875)))
    assert assign(report, max_bytes=9_900).precisions == {"a": "bits=8"}
    with pytest.raises(RecipeError):
        assign(report, max_bytes=9_200)


def test_the_recipe_names_what_differs() -> None:
    body = Skip("inner", "MatMul", IN_BODY)
    report = report_of(
        unit("a", (1e-9, -750), (1e-7, -875)),
        unit("b", (1e-9, -750), (1e-7, -875)),
        unit("c[0]", (1e-4, -750), (9.0, -875)),
        unit("d", (0.9, -10), None),
        skipped=(body,),
    )
    found = assign(report, max_bytes=7_500)
    assert found.precisions == {"a": "bits=4", "b": "bits=4", "c[0]": "bits=8", "d": FLOAT}
    (pass_,) = found.recipe.passes
    assert isinstance(pass_, QuantizeWeights)
    assert pass_.bits == 4
    wide, left = pass_.overrides
    assert wide.options == EIGHT
    assert wide.nodes == ("c[[]0]",)
    assert left.options is None
    assert left.nodes == ("d", "inner")
    assert Recipe.parse(found.recipe.dump()) == found.recipe


def test_passes_of_two_kinds_exclude_each_others_nodes() -> None:
    report = report_of(unit("a", (1e-9, -750), (1.0, -800)), unit("b", (1e-3, -100), (1e-9, -800)))
    coded = PalettizeWeights()
    other = replace(report.precisions[1], name="palette", recipe=Recipe.of([coded]).dump())
    report = replace(report, precisions=(report.precisions[0], other))
    found = assign(report, max_bytes=8_500)
    assert found.precisions == {"a": "bits=8", "b": "palette"}
    first, second = found.recipe.passes
    assert [type(first), type(second)] == [QuantizeWeights, PalettizeWeights]
    assert [override.nodes for override in first.overrides] == [("b",)]
    assert [override.nodes for override in second.overrides] == [("a",)]


@pytest.mark.parametrize("share", [0.35, 0.4, 0.5])
def test_the_recipe_keeps_the_size_and_the_error_that_were_expected(
    tmp_path: Path, share: float
) -> None:
    path, data = write(tmp_path, 120)
    report = analyze_sensitivity(path, [EIGHT, FOUR], data=str(data), samples=None)
    limit = int(share * report.file_bytes)
    found = assign(report, max_bytes=limit)
    model = io.load(path)
    before = Session(path)
    PassManager(Recipe.parse(found.recipe.dump()).passes).run(model)
    size = len(io.to_bytes(model))
    assert size <= limit
    assert size == pytest.approx(found.bytes, rel=0.02)
    chosen_by = load_samples(str(data), before, seed=0).choosing
    feeds = {"x": np.concatenate([batch.feeds["x"] for batch in chosen_by.batches(1)])}
    wanted = before.run(feeds)["y"].astype(np.float64)
    after = Session(io.to_bytes(model)).run(feeds)["y"]
    mean = wanted.mean(axis=0)
    assert sqnr(wanted - mean, after - mean) == pytest.approx(found.sqnr, abs=2)


def test_one_budget_is_wanted() -> None:
    with pytest.raises(RecipeError, match="one of the two"):
        assign(random_report(0))


def test_without_the_solver_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(OnnxCompressError, match=r"pip install 'onnxcompress\[solver\]'"):
        assign(random_report(0), max_bytes=9_000)
