"""Mistakes made to the answers of real models are refused at one per cent, faint noise is not.

One output at a time is wrong, or the outputs of one detector that say the same, so that no other
gives it away. A scale that leaves all choices as they were is refused too: the scores behind
choices are judged, since whoever reads them beside the choice gets other ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from onnxcompress.budget import Budget
from onnxcompress.judging.score import Score, Verdict
from tests.verdict import mistakes
from tests.verdict.conftest import Zoo
from tests.verdict.mistakes import Mistake
from tests.verdict.targets import TARGETS, Target, replaced

BUDGET: Final = Budget(0.01)


def judged(target: Target, mistake: Mistake, zoo: Zoo) -> Score:
    """What is said of the model with a mistake in some outputs."""
    judge, rng = zoo.judge(target.model), np.random.default_rng(0)
    wrong = {}
    for name in target.outputs:
        values = mistake(target.read(judge.answers, name), target.layout, rng)
        wrong[name] = target.write(values, judge.answers, name)
    return judge.score(replaced(judge.answers, wrong))


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_mistakes_are_refused(target: Target, zoo: Zoo) -> None:
    known = mistakes.fitting(target.layout, chooses=target.chooses, are_names=target.are_names)
    scores = {mistake.__name__: judged(target, mistake, zoo) for mistake in known}
    accepted = {
        name: score.worst
        for name, score in scores.items()
        if score.verdict(BUDGET) is not Verdict.FAILED
    }
    assert not accepted
    # The output that is wrong is the one that is blamed.
    assert {score.worst.name for score in scores.values()} <= {*target.outputs}


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_faint_noise_is_accepted(target: Target, zoo: Zoo) -> None:
    score = judged(target, mistakes.at_40_decibels, zoo)
    assert score.verdict(BUDGET) is not Verdict.FAILED, score.worst
