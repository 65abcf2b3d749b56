"""Numbers that mean something each: scores, probabilities, a state, a curve, a map."""

from __future__ import annotations

import numpy as np

from tests.verdict.support import Case, Outputs, Quality, stacked

_TEXT = 0.3
"""A pixel above is taken for text, as rapidocr does."""


def r2(original: np.ndarray, candidate: np.ndarray) -> float:
    """The share of the original's variance over samples that is kept, least of all numbers.

    What gives one answer to all keeps nothing: 0, which is also what worse ones get.
    """
    wanted = original.reshape(len(original), -1).astype(np.float64)
    got = candidate.reshape(wanted.shape).astype(np.float64)
    lost = np.sum(np.square(wanted - got), axis=0)
    spread = np.sum(np.square(wanted - wanted.mean(axis=0)), axis=0)
    return float(np.clip(1 - lost / np.maximum(spread, 1e-12), 0, 1).min())


def pooled_r2(original: np.ndarray, candidate: np.ndarray) -> float:
    """The same, with the variances of all numbers of a sample taken together."""
    wanted = original.reshape(len(original), -1).astype(np.float64)
    got = candidate.reshape(wanted.shape).astype(np.float64)
    lost = np.sum(np.square(wanted - got))
    spread = np.sum(np.square(wanted - wanted.mean(axis=0)))
    return float(np.clip(1 - lost / max(spread, 1e-12), 0, 1))


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """How much likelier than not, as a logarithm; one in ten million is the least told apart."""
    bounded = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    odds: np.ndarray = np.log(bounded / (1 - bounded))
    return odds


def dice(original: np.ndarray, candidate: np.ndarray) -> float:
    """Twice the pixels that both have, over all that either has."""
    count = int(original.sum()) + int(candidate.sum())
    return 2 * int(np.sum(original & candidate)) / count if count else 1.0


def of_scores(name: str) -> Quality:
    """R2 of each score."""
    return lambda original, candidate: r2(stacked(original, name), stacked(candidate, name))


def of_gains(original: Outputs, candidate: Outputs) -> float:
    """R2 of all gains."""
    return pooled_r2(stacked(original, "output"), stacked(candidate, "output"))


def of_probability(name: str) -> Quality:
    """R2 of the logarithm of the odds."""
    return lambda original, candidate: r2(
        log_odds(stacked(original, name)), log_odds(stacked(candidate, name))
    )


def of_voice(original: Outputs, candidate: Outputs) -> float:
    """The worse of the probability of speech and the states that go into the next frame."""
    states = [
        pooled_r2(
            *(np.moveaxis(stacked(each, name, axis=1), 1, 0) for each in (original, candidate))
        )
        for name in ("hn", "cn")
    ]
    return min(of_probability("output")(original, candidate), *states)


def of_text(original: Outputs, candidate: Outputs) -> float:
    """How much the pixels taken for text are the same."""
    name = "sigmoid_0.tmp_0"
    return dice(stacked(original, name) > _TEXT, stacked(candidate, name) > _TEXT)


CASES = {
    "dnsmos": Case(kinds={"Identity:0": "numbers"}, quality=of_scores("Identity:0")),
    "wake-word": Case(kinds={"39": "number"}, quality=of_probability("39")),
    "silero-vad": Case(kinds={"output": "number", "hn": "state", "cn": "state"}, quality=of_voice),
    "nsnet2": Case(kinds={"output": "map"}, quality=of_gains),
    "text-detection": Case(kinds={"sigmoid_0.tmp_0": "map"}, quality=of_text),
}
