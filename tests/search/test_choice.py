"""Which candidate is the answer."""

from __future__ import annotations

import math

import pytest

from onnxcompress.measure.accuracy import Score
from onnxcompress.measure.latency import Latency
from onnxcompress.measure.size import Size
from onnxcompress.report.schema import ModelReport, Status
from onnxcompress.search.candidates import Goal
from onnxcompress.search.choice import choose


def model(
    speedup: float = 1.0, drop: float = 0.0, size: int = 100, low: float | None = None
) -> ModelReport:
    low = speedup - 0.05 if low is None else low
    return ModelReport(
        name="",
        nodes=1,
        parameters=1,
        size=Size(file_bytes=size, load_seconds=0.1, peak_memory_bytes=1),
        score=Score(value=1 - drop, reference_value=1.0, drop=drop, drop_interval=(drop, drop)),
        latency=Latency(
            median_ms=10 / speedup,
            q1_ms=1,
            q3_ms=1,
            speedup=speedup,
            speedup_low=low,
            speedup_high=speedup + 0.05,
            rounds=5,
            runs_per_round=1,
        ),
        executed_ops={},
        surviving_qdq=(),
    )


def chosen(candidates: dict[str, ModelReport], goal: Goal = Goal.SPEED) -> tuple[str, bool]:
    choice = choose(model(), candidates, 0.01, goal, fallback="cleaned")
    assert choice.statuses[choice.name][0] is Status.CHOSEN
    assert [s for s, _ in choice.statuses.values()].count(Status.CHOSEN) == 1
    return choice.name, choice.improved


def test_the_fastest_within_the_budget() -> None:
    candidates = {
        "cleaned": model(1.0),
        "slow": model(1.5),
        "fast": model(2.0, drop=0.01),
        "broken": model(3.0, drop=0.02),
    }
    assert chosen(candidates) == ("fast", True)


def test_among_equally_fast_the_most_accurate() -> None:
    candidates = {"cleaned": model(), "a": model(2.0, drop=0.009), "b": model(1.95, drop=0.001)}
    assert chosen(candidates) == ("b", True)
    candidates["b"] = model(1.9, drop=0.001)
    assert chosen(candidates) == ("a", True)


def test_faster_by_noise_is_not_faster() -> None:
    candidates = {"cleaned": model(), "lucky": model(1.02, low=0.99)}
    assert chosen(candidates) == ("cleaned", False)


def test_what_changed_nothing_is_not_faster_whatever_the_clock_says() -> None:
    candidates = {"recipe": model(1.5, low=1.4)}
    choice = choose(model(), candidates, 0.01, Goal.SPEED, fallback="recipe", untouched=["recipe"])
    assert not choice.improved
    assert choice.statuses["recipe"] == (Status.CHOSEN, "its passes changed nothing")


def test_outputs_that_are_nan_never_win() -> None:
    for drop in (math.inf, math.nan):
        candidates = {"cleaned": model(), "nan": model(3.0, drop=drop)}
        assert chosen(candidates) == ("cleaned", False)


def test_goal_size_takes_the_smallest_even_if_slower() -> None:
    candidates = {"cleaned": model(), "fast": model(2.0, size=40), "small": model(0.5, size=20)}
    assert chosen(candidates, Goal.SIZE) == ("small", True)
    assert chosen(candidates, Goal.SPEED) == ("fast", True)


def test_reasons_say_the_numbers() -> None:
    candidates = {"cleaned": model(), "bad": model(2.0, drop=0.5)}
    choice = choose(model(), candidates, 0.01, Goal.SPEED, fallback="cleaned")
    status, reason = choice.statuses["bad"]
    assert status is Status.OVER_BUDGET
    assert reason == "drop 0.5 > 0.01 allowed"
    assert "nothing better" in choice.verdict


@pytest.mark.parametrize("goal", list(Goal))
def test_a_recipe_is_written_even_if_it_misses_the_budget(goal: Goal) -> None:
    choice = choose(model(), {"recipe": model(2.0, drop=0.2)}, 0.01, goal, fallback="recipe")
    assert (choice.name, choice.improved) == ("recipe", False)
