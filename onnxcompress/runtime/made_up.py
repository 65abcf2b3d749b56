"""Made-up samples that a model really runs on, and what was guessed to make them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.given_shapes import Shapes, given_symbols
from onnxcompress.data.synthetic import guessed_axes, mask_shapes, synthetic_dataset
from onnxcompress.errors import DataError, SessionError
from onnxcompress.runtime.session import Session

_LENGTHS = (16, 32, 64, 128, 224, 256, 512, 1024)
"""What is tried for axes whose length the model leaves open: short ones do not survive the pooling
and padding of some models."""


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """Samples from nothing but a model's inputs.

    Attributes:
        data: the samples.
        guesses: a sentence for each input with axes whose length was guessed.
    """

    data: Dataset
    guesses: tuple[str, ...]


def make_up(session: Session, samples: int, seed: int, shapes: Shapes | None = None) -> MadeUp:
    """Random samples from the model's inputs, of the shortest length that runs.

    Args:
        session: the model.
        samples: how many to make.
        seed: of the random numbers.
        shapes: of the inputs named, the first axis being 1 where it counts samples; what they say
            of a symbol holds for all inputs.

    Raises:
        DataError: a shape does not fit the model, or none of the lengths runs; gives onnxruntime's
            reason for the first.
    """
    shapes = shapes or {}
    given_symbols(shapes, session.inputs)
    is_open = bool(guessed_axes(session.inputs, shapes, _LENGTHS[0]))
    fault: SessionError | None = None
    for length in _LENGTHS if is_open else _LENGTHS[:1]:
        masks = mask_shapes(session.inputs, shapes, length)
        for more in [{}, masks] if masks else [{}]:
            tried = {**shapes, **more}
            made_up = synthetic_dataset(session.inputs, samples, seed, size=length, shapes=tried)
            try:
                session.run(next(made_up.batches(1)).feeds)
            except SessionError as refusal:
                fault = fault or refusal
            else:
                guessed = guessed_axes(session.inputs, shapes, length)
                for name, shape in more.items():
                    guessed[name][-1] = (guessed[name][-1][0], shape[-1])
                return MadeUp(data=made_up, guesses=_in_words(guessed))
    raise DataError(
        f"no made-up input runs, so real data is needed (--data), or shapes that the model takes "
        f"(--shapes): {fault}"
    ) from fault


def guess_notes(guesses: Iterable[str]) -> Iterator[str]:
    """What to know of guesses: a sentence for each."""
    for guess in guesses:
        yield f"{guess}; times and counts hold for that size alone, --shapes sets another"


def _in_words(guessed: Mapping[str, Sequence[tuple[str, int]]]) -> tuple[str, ...]:
    return tuple(
        f"input {name!r}: {', '.join(axis for axis, _ in axes)} guessed as "
        f"{' x '.join(str(size) for _, size in axes)}"
        for name, axes in guessed.items()
    )
