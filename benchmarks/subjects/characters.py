"""How much of a line of text a recognizer reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.subjects.evaluate import first_output
from benchmarks.subjects.subject import FloatMetric, Samples

BLANK = 0
"""The class that stands for no character, and between two equal ones."""

NO_CHARACTER = -1
"""What fills up labels."""

_BATCH = 10


def read_line(scores: np.ndarray) -> tuple[int, ...]:
    """The best class of each step, runs of one class as one, blanks left out.

    That is greedy decoding for connectionist temporal classification (Graves et al. 2006).

    Args:
        scores: [steps, classes].
    """
    best = scores.argmax(axis=-1)
    begins = np.concatenate([[True], best[1:] != best[:-1]])
    return tuple(best[begins & (best != BLANK)].tolist())


@lru_cache(maxsize=1 << 16)  # resampling asks for the same lines over and over
def edit_distance(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """How many characters must be inserted, deleted or replaced (Levenshtein 1966)."""
    row = list(range(len(second) + 1))
    for index, character in enumerate(first, 1):
        diagonal, row[0] = row[0], index
        for column, other in enumerate(second, 1):
            replaced = diagonal + (character != other)
            diagonal = row[column]
            row[column] = min(replaced, row[column] + 1, row[column - 1] + 1)
    return row[-1]


def character_error_rate(scores: np.ndarray, labels: np.ndarray) -> float:
    """Edits that make what was read what is written, over the characters written.

    Args:
        scores: float [lines, steps, classes].
        labels: int64 [lines, characters], the class of each, filled up with `NO_CHARACTER`.
    """
    edits = 0
    for line, label in zip(scores, labels, strict=True):
        edits += edit_distance(read_line(line), tuple(label[label != NO_CHARACTER].tolist()))
    return edits / int(np.count_nonzero(labels != NO_CHARACTER))


def character_accuracy(outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> float:
    """1 - character error rate of the only output, for ``--metric``: higher is better."""
    (scores,) = outputs.values()
    return 1 - character_error_rate(scores, labels)


def _of_model(model: Path, samples: Samples) -> float:
    return round(
        100 * character_error_rate(first_output(model, samples, _BATCH), samples.labels), 2
    )


CHARACTER_ERROR_RATE = FloatMetric(
    name="character error rate",
    unit="%",
    value=_of_model,
    judged_by="benchmarks.subjects.characters:character_accuracy",
)
