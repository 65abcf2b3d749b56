"""Readers of text: what they read, character by character."""

from __future__ import annotations

import numpy as np

from tests.verdict.support import Case, Outputs, Quality


def read(scores: np.ndarray, blank: int) -> list[int]:
    """The best character of each step, [steps, characters], repeats and blanks left out."""
    text: list[int] = []
    before = blank
    for best in scores.argmax(axis=-1).tolist():
        if best not in (blank, before):
            text.append(best)
        before = best
    return text


def edits(first: list[int], second: list[int]) -> int:
    """The fewest characters to insert, delete or replace."""
    costs = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    costs[:, 0] = np.arange(len(first) + 1)
    costs[0] = np.arange(len(second) + 1)
    for row, character in enumerate(first, 1):
        for column, other in enumerate(second, 1):
            costs[row, column] = min(
                costs[row - 1, column] + 1,
                costs[row, column - 1] + 1,
                costs[row - 1, column - 1] + (character != other),
            )
    return int(costs[-1, -1])


def quality_of(name: str, blank: int) -> Quality:
    """1 less the edits that make the original's text the candidate's, over its characters."""

    def quality(original: Outputs, candidate: Outputs) -> float:
        # Steps before samples.
        texts = [read(each[name][:, 0], blank) for each in original]
        others = [read(each[name][:, 0], blank) for each in candidate]
        wrong = sum(edits(text, other) for text, other in zip(texts, others, strict=True))
        return max(0.0, 1 - wrong / sum(len(text) for text in texts))

    return quality


CASES = {
    "ddddocr-recognizer": Case(kinds={"387": "sequence"}, quality=quality_of("387", 0)),
    "captcha-crnn": Case(kinds={"logits": "sequence"}, quality=quality_of("logits", 36)),
}
