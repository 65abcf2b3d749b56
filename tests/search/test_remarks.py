"""What is told of how far the numbers can be relied on."""

from __future__ import annotations

import math

import pytest

from onnxcompress.budget import Budget, BudgetKind
from onnxcompress.judging.score import Verdict, worst_of
from onnxcompress.measure.binomial import clopper_pearson
from onnxcompress.measure.intervals import IntervalKind
from onnxcompress.report.schema import DataReport
from onnxcompress.search.remarks import made_up_budget, score_notes, sentence, too_few
from tests.scores import model_report, output_score, score

DATA = DataReport(
    source="d.npz", labelled=True, calibration_samples=9, evaluation_samples=300, caveat=None
)
BUDGET = Budget(0.01)


@pytest.mark.parametrize(
    ("budget", "confidence", "needed"),
    [(BUDGET, None, 368), (BUDGET, 0.9, 299), (Budget(0.05), None, 72)],
)
def test_too_few_samples_to_prove_anything(
    budget: Budget, confidence: float | None, needed: int
) -> None:
    level = confidence or 0.95
    assert clopper_pearson(0, needed, level)[1] <= budget.value
    assert clopper_pearson(0, needed - 1, level)[1] > budget.value
    assert list(too_few(score(), budget, needed, confidence)) == []
    assert list(too_few(score(), budget, needed - 1, confidence)) == [
        f"{needed - 1} samples to judge on cannot prove a drop of at most {budget.value:.3g}: "
        f"{needed} could, if no answer changes"
    ]


def test_the_output_with_the_least_to_lose_says_how_many_are_needed() -> None:
    outputs = worst_of([output_score(), output_score(name="z", reference_value=0.5)])
    keep = Budget(0.9, BudgetKind.KEEP)
    (told,) = too_few(outputs, keep, 50, None)
    assert "a drop of at most 0.05: 72 could" in told
    # An error's increase is no share of samples, and no budget at all can be proved.
    assert list(too_few(score(drop_is_relative=True), BUDGET, 5, None)) == []
    assert list(too_few(score(), Budget(0.0), 5, None)) == []


def test_a_good_result_needs_no_note() -> None:
    assert list(score_notes(score(0.0, 0.01, constant_drop=0.5), BUDGET, 400)) == []


@pytest.mark.parametrize(("constant", "told"), [(0.01, "0.01"), (0.0, "0"), (-0.2, "0")])
def test_an_output_that_hardly_varies_proves_nothing(constant: float, told: str) -> None:
    assert list(score_notes(score(constant_drop=constant), BUDGET, 400)) == [
        "output 'y' of the original hardly varies on these data: a model that always answers the "
        f"same would drop {told}, so they prove nothing about it"
    ]


def test_what_the_samples_cannot_tell() -> None:
    assert list(score_notes(score(0.005, 0.02), BUDGET, 400)) == [
        "output 'y': the drop may be as large as 0.02, over the budget of 0.01; 400 samples cannot "
        "tell, more could"
    ]
    approximate = score(interval_kind=IntervalKind.APPROXIMATE)
    assert list(score_notes(approximate, BUDGET, 30)) == [
        "output 'y': with 30 samples the interval of its drop is approximate"
    ]
    assert list(score_notes(score(0.02, 0.03), BUDGET, 400)) == []


def test_a_problem_is_all_that_is_told_of_an_output() -> None:
    broken = output_score(math.inf, problem="holds NaN", constant_drop=0.0)
    both = worst_of([broken, output_score(0.0, 0.02, name="z")])
    first, second = score_notes(both, BUDGET, 400)
    assert first == "output 'y' holds NaN"
    assert second.startswith("output 'z': the drop may be as large as 0.02")


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("improved", [True, False])
def test_the_outcome(verdict: Verdict, improved: bool) -> None:
    chosen = model_report(2.0, score(0.004, 0.009), size=25, name="static-int8")
    told = sentence(
        model_report(), chosen, improved=improved, asked=False, proof=verdict, samples=DATA
    )
    judged = f"drop 0.004 (0.004 to 0.009) {verdict.value} on 300 samples"
    if improved:
        assert told == f"static-int8: 2.00x as fast, 25% of the bytes, {judged}"
    else:
        assert told == (
            "nothing better than the original was found; wrote 'static-int8' (2.00x as fast, 25% "
            f"of the bytes; {judged})"
        )


@pytest.mark.parametrize("improved", [True, False])
def test_without_data_no_accuracy_is_claimed(improved: bool) -> None:
    chosen = model_report(2.0, score(0.004), name="dynamic-int8")
    told = sentence(
        model_report(), chosen, improved=improved, asked=False, proof=None, samples=DATA
    )
    assert "accuracy not judged: there are no data" in told
    assert "drop" not in told and "0.004" not in told
    assert told.startswith("dynamic-int8: runs, and is 2.00x as fast" if improved else "nothing")


def test_a_recipe_over_the_budget_was_written_as_asked() -> None:
    told = sentence(
        model_report(),
        model_report(2.0, size=25),
        improved=False,
        asked=True,
        proof=Verdict.FAILED,
        samples=DATA,
    )
    assert "written as asked, but over the budget" in told


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (Budget(0.01), 0.1),
        (Budget(0.3), 0.3),
        (Budget(0.99, BudgetKind.KEEP), 0.1),
    ],
)
def test_made_up_samples_only_have_to_show_that_a_model_is_sane(
    asked: Budget, allowed: float
) -> None:
    assert made_up_budget(asked) == Budget(allowed)
