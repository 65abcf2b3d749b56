"""What `bench` says of candidates agrees with how well they do their job, kind by kind."""

from __future__ import annotations

import pytest

from tests.verdict import choices, detections, embeddings, numbers, segments, tables, texts
from tests.verdict.conftest import HARMS, Zoo
from tests.verdict.support import Case

CASES: dict[str, Case] = {
    **detections.CASES,
    **texts.CASES,
    **numbers.CASES,
    **choices.CASES,
    **embeddings.CASES,
    **segments.CASES,
    **tables.CASES,
}

BUDGET = 0.01
"""The drop that a user allows who names none."""

GOOD, BAD = 0.995, 0.9
"""From here on a candidate does as well as the original; below, nobody would use it instead."""


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_the_table_s(name: str, zoo: Zoo) -> None:
    assert list(zoo.answers(name)[0]) == list(CASES[name].kinds)


@pytest.mark.parametrize("name", CASES)
def test_quality_falls_with_damage(name: str, zoo: Zoo) -> None:
    quality, original = CASES[name].quality, zoo.answers(name)
    assert quality(original, original) == 1
    faint, loud, constant = (quality(original, zoo.answers(name, harm)) for harm in HARMS)
    assert faint > loud
    assert faint > 0.75
    assert loud < 0.99
    assert constant < 0.75


@pytest.mark.parametrize("name", CASES)
def test_kinds_and_no_drop_without_damage(name: str, zoo: Zoo) -> None:
    verdict = zoo.verdict(name)
    assert {output: kind for output, (kind, _) in verdict.items()} == dict(CASES[name].kinds)
    assert all(drop == pytest.approx(0, abs=1e-6) for _, drop in verdict.values())


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", CASES)
def test_verdict_agrees_with_quality(name: str, harm: str, zoo: Zoo) -> None:
    quality = CASES[name].quality(zoo.answers(name), zoo.answers(name, harm))
    worst = max(drop for _, drop in zoo.verdict(name, harm).values())
    if quality >= GOOD:
        assert worst <= BUDGET
    if quality < BAD:
        assert worst > BUDGET
