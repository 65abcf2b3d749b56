import gc
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from onnxcompress.measure.latency import compare_latency, summarize

FEED = {"x": np.zeros(1, np.float32)}
MS = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 0
        self.order: list[str] = []

    def __call__(self) -> int:
        return self.now


class Fake:
    """A session that takes the times given, in turn."""

    def __init__(self, clock: Clock, name: str, *times_ms: float) -> None:
        self._clock, self._name, self._times = clock, name, times_ms
        self.runs = 0

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        assert feeds is FEED
        assert outputs is None
        assert not gc.isenabled()
        self._clock.now += round(self._times[self.runs % len(self._times)] * MS)
        self._clock.order.append(self._name)
        self.runs += 1
        return {}


def test_bursts_last_long_enough_and_ratios_are_paired() -> None:
    clock = Clock()
    slow, fast = Fake(clock, "slow", 20), Fake(clock, "fast", 5)
    result = compare_latency(
        [slow, fast], FEED, rounds=8, min_round_seconds=0.05, warmup=2, clock=clock
    )
    first, second = result.latencies
    assert result.baseline is first
    assert (first.runs_per_round, second.runs_per_round) == (3, 10)
    assert (first.median_ms, first.q1_ms, first.q3_ms) == (20, 20, 20)
    assert second.median_ms == 5
    assert (first.speedup, first.speedup_low, first.speedup_high) == (1, 1, 1)
    assert (second.speedup, second.speedup_low, second.speedup_high) == (4, 4, 4)
    assert first.rounds == 8
    # Warm-up, then in each round one run before the burst.
    assert (slow.runs, fast.runs) == (2 + 8 * 4, 2 + 8 * 11)
    assert gc.isenabled()


@pytest.mark.slow
def test_the_order_changes_from_round_to_round() -> None:
    def order(seed: int) -> str:
        clock = Clock()
        sessions = [Fake(clock, name, 1) for name in "abc"]
        compare_latency(
            sessions, FEED, rounds=20, min_round_seconds=0, warmup=1, seed=seed, clock=clock
        )
        return "".join(clock.order[3:])

    rounds = [order(0)[start : start + 3] for start in range(0, 60, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 3
    assert order(0) == order(0) != order(1)


def test_statistics() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(9, 11, 40)
    times = np.stack([base, base / rng.uniform(1.9, 2.3, 40)], axis=1)
    first, second = summarize(times, [1, 1], seed=5).latencies
    ratios = times[:, 0] / times[:, 1]
    assert second.speedup == pytest.approx(np.median(ratios))
    assert second.median_ms == pytest.approx(np.median(times[:, 1]))
    assert (first.q1_ms, first.q3_ms) == pytest.approx(np.quantile(base, [0.25, 0.75]))
    medians = [np.median(ratios[rng.integers(0, 40, 40)]) for _ in range(4000)]
    np.testing.assert_allclose(
        [second.speedup_low, second.speedup_high], np.quantile(medians, [0.025, 0.975]), atol=0.03
    )
    assert summarize(times, [1, 1], seed=5) == summarize(times, [1, 1], seed=5)


def test_a_burden_on_the_whole_round_leaves_the_ratio() -> None:
    times = np.array([[10.0, 5.0], [40.0, 20.0], [12.0, 6.0]])
    second = summarize(times, [1, 1], seed=0).latencies[1]
    assert (second.speedup, second.speedup_low, second.speedup_high) == (2, 2, 2)


def test_the_budget_stops_it_but_five_rounds_are_done() -> None:
    clock = Clock()
    sessions = [Fake(clock, "a", 100), Fake(clock, "b", 100)]
    seen: list[tuple[int, int]] = []
    result = compare_latency(
        sessions,
        FEED,
        rounds=50,
        min_round_seconds=0.5,
        warmup=1,
        budget_seconds=0.3,
        progress=lambda done, planned: seen.append((done, planned)),
        clock=clock,
    )
    assert result.baseline.rounds == 5
    assert result.baseline.runs_per_round == 1
    assert seen == [(n, 50) for n in range(1, 6)]


def test_a_budget_that_is_enough_stops_nothing() -> None:
    clock = Clock()
    result = compare_latency(
        [Fake(clock, "a", 1)], FEED, rounds=12, min_round_seconds=0, budget_seconds=9, clock=clock
    )
    assert result.baseline.rounds == 12


def test_a_session_too_fast_to_time_does_not_divide_by_zero() -> None:
    clock = Clock()
    result = compare_latency(
        [Fake(clock, "a", 0), Fake(clock, "b", 0)], FEED, rounds=2, min_round_seconds=0, clock=clock
    )
    assert result.latencies[1].speedup == 1


def test_the_collector_is_back_after_a_failure() -> None:
    class Broken:
        def run(
            self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
        ) -> dict[str, np.ndarray]:
            raise RuntimeError(f"{feeds} {outputs}")

    with pytest.raises(RuntimeError):
        compare_latency([Broken()], FEED)
    assert gc.isenabled()
    with pytest.raises(ValueError, match="needs a session"):
        compare_latency([], FEED)
