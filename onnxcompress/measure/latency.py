"""Times sessions against each other, interleaved, so that what the machine does hits them alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.measure.bootstrap import median_interval
from onnxcompress.measure.predictions import Runnable

Clock = Callable[[], int]
Progress = Callable[[int, int], None]

MIN_ROUNDS: Final = 5
MIN_ROUND_SECONDS = 0.05
"""How long a session runs in a round at least, where nobody says; a shorter time tells less."""
_MOST_RUNS: Final = 100_000
_NS_PER_MS: Final = 1e6
_NS_PER_SECOND: Final = 1e9


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time of one session, and against the baseline.

    Attributes:
        median_ms: milliseconds a run, the median over rounds.
        q1_ms: first quartile.
        q3_ms: third quartile.
        speedup: the baseline's time over this one's, the median of the rounds' ratios; above 1 is
            faster.
        speedup_low: lower end of a 95 % bootstrap interval of it.
        speedup_high: upper end.
        rounds: how many rounds were done.
        runs_per_round: how many runs were timed together in each.
    """

    median_ms: float
    q1_ms: float
    q3_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    rounds: int
    runs_per_round: int


@dataclass(frozen=True, kw_only=True)
class LatencyComparison:
    """One `Latency` for each session, in their order; the first is the baseline."""

    latencies: tuple[Latency, ...]

    @property
    def baseline(self) -> Latency:
        """The first session's."""
        return self.latencies[0]


def compare_latency(
    sessions: Sequence[Runnable],
    feed: Mapping[str, np.ndarray],
    *,
    rounds: int = 30,
    min_round_seconds: float | None = None,
    warmup: int = 3,
    seed: int = 0,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> LatencyComparison:
    """Times sessions on one feed; each round times each of them once, in a new random order.

    Args:
        sessions: the baseline first.
        feed: an array for every input.
        rounds: how many rounds to do.
        min_round_seconds: how long a session runs in a round at least, by as many runs as that
            takes; with several runs, one more goes before them untimed, for the caches. None for
            `MIN_ROUND_SECONDS`.
        warmup: runs of each session before all, at least 1; they tell how many runs a round needs.
        seed: of the orders and the resampling.
        budget_seconds: stops after the round that exceeds it, but does 5 rounds always (or `rounds`
            if fewer); rounds are shortened where 5 would not fit.
        progress: called after every round with the rounds done and planned.
        clock: nanoseconds from any start.

    Raises:
        SessionError: a session cannot run the feed.
    """
    if not sessions or rounds < 1 or warmup < 1:
        raise ValueError("a comparison needs a session, a round and a warm-up run at least")
    rng = np.random.default_rng(seed)
    with _quiet_collector():
        began = clock()
        estimates = [
            min(_timed(session, feed, 1, clock) for _ in range(warmup)) for session in sessions
        ]
        least = MIN_ROUND_SECONDS if min_round_seconds is None else min_round_seconds
        wanted = least * _NS_PER_SECOND
        if budget_seconds is not None:
            share = budget_seconds * _NS_PER_SECOND / (MIN_ROUNDS * len(sessions))
            wanted = min(wanted, share)
        runs = [min(max(1, math.ceil(wanted / each)), _MOST_RUNS) for each in estimates]
        times: list[list[float]] = []
        for done in range(1, rounds + 1):
            row = [0.0] * len(sessions)
            for index in rng.permutation(len(sessions)):
                if runs[index] > 1:
                    sessions[index].run(feed)
                row[index] = _timed(sessions[index], feed, runs[index], clock)
            times.append(row)
            if progress is not None:
                progress(done, rounds)
            spent = (clock() - began) / _NS_PER_SECOND
            if budget_seconds is not None and done >= MIN_ROUNDS and spent >= budget_seconds:
                break
    return summarize(np.array(times) / _NS_PER_MS, runs, seed)


def summarize(
    milliseconds: NDArray[np.float64], runs_per_round: Sequence[int], seed: int
) -> LatencyComparison:
    """Medians, quartiles and paired ratios.

    Args:
        milliseconds: a run's time, shape (rounds, sessions), the baseline first.
        runs_per_round: for each session, told in the result.
        seed: of the resampling.
    """
    latencies = []
    for index, runs in enumerate(runs_per_round):
        own = milliseconds[:, index]
        ratios = milliseconds[:, 0] / own
        low, high = median_interval(ratios, seed)
        q1, median, q3 = np.quantile(own, [0.25, 0.5, 0.75])
        latencies.append(
            Latency(
                median_ms=float(median),
                q1_ms=float(q1),
                q3_ms=float(q3),
                speedup=float(np.median(ratios)),
                speedup_low=low,
                speedup_high=high,
                rounds=len(milliseconds),
                runs_per_round=runs,
            )
        )
    return LatencyComparison(latencies=tuple(latencies))


def _timed(session: Runnable, feed: Mapping[str, np.ndarray], runs: int, clock: Clock) -> float:
    """Nanoseconds a run; at least one tick, since a ratio of nothing says nothing."""
    began = clock()
    for _ in range(runs):
        session.run(feed)
    return max(clock() - began, 1) / runs


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Keeps Python's garbage collector from stopping a run."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
