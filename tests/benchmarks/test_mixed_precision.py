"""The placebo keeps sizes and gives the noise of one unit to another."""

from dataclasses import replace

from benchmarks.mixed_precision import shuffled, used
from onnxcompress.sensitivity.assignment import assign
from tests.sensitivity.test_assignment import random_report


def test_a_shuffled_report_has_the_same_noises_elsewhere() -> None:
    report = random_report(0)
    placebo = shuffled(report, seed=0)
    assert [unit.nodes for unit in placebo.units] == [unit.nodes for unit in report.units]
    noises = [[unit.damage[0].noise for unit in each.units] for each in (report, placebo)]
    assert noises[0] != noises[1]
    assert sorted(noises[0]) == sorted(noises[1])
    for before, after in zip(report.units, placebo.units, strict=True):
        for own, given in zip(before.damage, after.damage, strict=True):
            assert replace(given, noise=own.noise) == own


def test_a_row_counts_the_nodes_of_each_width() -> None:
    assert used(assign(random_report(0), max_bytes=9_000)).count(" x ") >= 2
