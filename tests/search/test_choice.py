"""Which candidate is the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from onnxcompress.budget import Budget, BudgetKind
from onnxcompress.judging.score import Score, Verdict, worst_of
from onnxcompress.report.schema import ModelReport, Status
from onnxcompress.search.candidates import Goal
from onnxcompress.search.choice import Choice, Ranking, choose, drop_beside, rank
from tests.scores import model_report as model
from tests.scores import output_score, score

BUDGET = Budget(0.01)


def ordered(candidates: Mapping[str, ModelReport], goal: Goal = Goal.SPEED) -> list[str]:
    return list(rank(model(), candidates, BUDGET, goal).order)


def test_the_fastest_within_the_budget_comes_first() -> None:
    candidates = {
        "cleaned": model(1.0),
        "slow": model(1.5),
        "fast": model(2.0, drop=0.01),
        "broken": model(3.0, drop=0.02),
    }
    assert ordered(candidates) == ["fast", "slow"]


def test_among_equally_fast_the_most_accurate() -> None:
    candidates = {"cleaned": model(), "a": model(2.0, drop=0.009), "b": model(1.95, drop=0.001)}
    assert ordered(candidates) == ["b", "a"]
    candidates["b"] = model(1.9, drop=0.001)
    assert ordered(candidates) == ["a", "b"]


def test_close_is_measured_from_the_best_that_is_left() -> None:
    candidates = {
        "a": model(2.0, drop=0.003),
        "b": model(1.95, drop=0.002),
        "c": model(1.91, drop=0.001),
    }
    assert ordered(candidates) == ["b", "a", "c"]
    del candidates["a"]
    assert ordered(candidates) == ["c", "b"]


def test_faster_by_noise_is_not_faster() -> None:
    candidates = {"cleaned": model(), "lucky": model(1.02, low=0.99)}
    assert ordered(candidates) == []


def test_what_changed_nothing_is_not_faster_whatever_the_clock_says() -> None:
    candidates = {"recipe": model(1.5, low=1.4)}
    ranking = rank(model(), candidates, BUDGET, Goal.SPEED, untouched=["recipe"])
    assert ranking.order == ()
    assert ranking.statuses["recipe"] == (Status.NOT_BETTER, "its passes changed nothing")
    choice = choose(ranking, lambda _: score(), BUDGET, must_be_proved=False, fallback="recipe")
    assert not choice.improved
    assert choice.statuses["recipe"] == (Status.CHOSEN, "its passes changed nothing")


def test_outputs_that_are_nan_never_win() -> None:
    for drop in (math.inf, math.nan):
        assert ordered({"cleaned": model(), "nan": model(3.0, drop=drop)}) == []


def test_goal_size_takes_the_smallest_even_if_slower() -> None:
    candidates = {"cleaned": model(), "fast": model(2.0, size=40), "small": model(0.5, size=20)}
    assert ordered(candidates, Goal.SIZE) == ["small", "fast"]
    assert ordered(candidates, Goal.SPEED) == ["fast"]


def test_reasons_say_the_numbers() -> None:
    candidates = {"good": model(2.0, drop=0.005), "bad": model(2.0, drop=0.5), "slow": model(1.0)}
    statuses = rank(model(), candidates, BUDGET, Goal.SPEED).statuses
    assert statuses["good"] == (Status.HOLDS, "drop 0.005 <= 0.01 allowed")
    assert statuses["bad"] == (Status.OVER_BUDGET, "drop 0.5 > 0.01 allowed")
    told = "speed-up 1.00x (0.95-1.05) is not surely > 1"
    assert statuses["slow"] == (Status.NOT_BETTER, told)
    statuses = rank(model(), candidates, BUDGET, Goal.SIZE).statuses
    assert statuses["slow"] == (Status.NOT_BETTER, "takes as many bytes as the original")


def test_reasons_name_the_output_that_is_furthest_over_the_budget() -> None:
    outputs = [
        output_score(0.05, name="a", reference_value=10.0),
        output_score(0.03, name="b"),
        output_score(0.0, name="c"),
    ]
    assert drop_beside(worst_of(outputs), BUDGET) == "drop of a 0.05 > 0.01 allowed"
    keep = Budget(0.99, BudgetKind.KEEP)
    assert drop_beside(worst_of(outputs), keep) == "drop of b 0.03 > 0.01 allowed"
    broken = output_score(math.inf, name="d", problem="holds NaN")
    assert drop_beside(worst_of([*outputs, broken]), BUDGET) == "d holds NaN"


class Judge:
    """Knows what the samples that judge say, and notes what it was asked."""

    def __init__(self, **scores: Score) -> None:
        self.scores = scores
        self.asked: list[str] = []

    def __call__(self, name: str) -> Score:
        self.asked.append(name)
        return self.scores[name]


ORDER = ("first", "second", "third")
STATUSES = {
    **dict.fromkeys(ORDER, (Status.HOLDS, "drop 0 <= 0.01 allowed")),
    "cleaned": (Status.NOT_BETTER, "no faster"),
}


def chosen(judge: Judge, *, must_be_proved: bool = False) -> Choice:
    ranking = Ranking(order=ORDER, statuses=STATUSES)
    choice = choose(ranking, judge, BUDGET, must_be_proved=must_be_proved, fallback="cleaned")
    assert choice.statuses[choice.name][0] is Status.CHOSEN
    assert [status for status, _ in choice.statuses.values()].count(Status.CHOSEN) == 1
    assert list(choice.finals) == judge.asked
    assert ranking.statuses == STATUSES
    return choice


def test_the_first_of_the_order_is_taken_and_no_other_judged() -> None:
    judge = Judge(first=score(0.005, 0.02))
    choice = chosen(judge)
    assert (choice.name, choice.improved, choice.verdict) == ("first", True, Verdict.HELD)
    assert judge.asked == ["first"]
    assert choice.finals == judge.scores
    assert choice.statuses["second"] == STATUSES["second"]


def test_where_the_first_fails_the_next_is_judged() -> None:
    judge = Judge(first=score(0.02, 0.03), second=score(0.0, 0.009), third=score())
    choice = chosen(judge)
    assert (choice.name, choice.improved, choice.verdict) == ("second", True, Verdict.PROVED)
    assert judge.asked == ["first", "second"]
    assert choice.statuses["first"] == (
        Status.OVER_BUDGET,
        "drop 0.02 > 0.01 allowed, on the samples that judge",
    )
    assert choice.statuses["third"] == STATUSES["third"]


def test_where_it_must_be_proved_to_hold_is_not_enough() -> None:
    judge = Judge(first=score(0.005, 0.02), second=score(0.02), third=score(0.005, 0.01))
    choice = chosen(judge, must_be_proved=True)
    assert (choice.name, choice.improved, choice.verdict) == ("third", True, Verdict.PROVED)
    assert choice.statuses["first"] == (
        Status.OVER_BUDGET,
        "drop 0.005 <= 0.01 allowed, but not proved, on the samples that judge",
    )


@pytest.mark.parametrize("constant", [0.01, 0.005, -0.1])
def test_what_a_constant_answer_holds_too_proves_nothing(constant: float) -> None:
    judge = Judge(first=score(constant_drop=constant), second=score(constant_drop=0.011))
    assert chosen(judge, must_be_proved=True).name == "second"
    assert chosen(Judge(first=judge.scores["first"])).verdict is Verdict.HELD


def test_where_all_fail_the_fallback_is_written_and_judged_too() -> None:
    over = score(math.nan)
    judge = Judge(first=over, second=over, third=over, cleaned=score(0.0, 0.02))
    choice = chosen(judge)
    assert (choice.name, choice.improved, choice.verdict) == ("cleaned", False, Verdict.HELD)
    assert judge.asked == ["first", "second", "third", "cleaned"]
    assert choice.statuses["cleaned"] == (Status.CHOSEN, "no faster")


def test_one_output_of_several_that_fails_is_enough() -> None:
    outputs = worst_of([output_score(name="a"), output_score(0.02, name="b")])
    judge = Judge(first=outputs, second=worst_of([output_score(name="a"), output_score(name="b")]))
    choice = chosen(judge)
    assert choice.name == "second"
    assert "drop of b 0.02 > 0.01" in choice.statuses["first"][1]


@pytest.mark.parametrize("goal", list(Goal))
def test_a_recipe_is_written_even_if_it_misses_the_budget(goal: Goal) -> None:
    recipe = model(2.0, drop=0.2, size=50)
    ranking = rank(model(), {"recipe": recipe}, BUDGET, goal)
    choice = choose(
        ranking, lambda _: recipe.score, BUDGET, must_be_proved=False, fallback="recipe"
    )
    assert (choice.name, choice.improved, choice.verdict) == ("recipe", False, Verdict.FAILED)
    assert choice.statuses["recipe"] == (Status.CHOSEN, "drop 0.2 > 0.01 allowed")
