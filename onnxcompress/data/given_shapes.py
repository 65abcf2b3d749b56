"""Shapes that a user gives to inputs whose axes the model leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnxcompress.errors import DataError

if TYPE_CHECKING:
    from onnxcompress.runtime.session import TensorSignature

Shapes = Mapping[str, tuple[int, ...]]
"""Whole shapes by input name, the first axis being 1 where it counts samples."""


def shares_batch_axis(signature: Sequence[TensorSignature]) -> bool:
    """Whether the first axis of all inputs counts samples, as far as shapes can tell."""
    firsts = {tensor.shape[0] for tensor in signature if tensor.shape}
    others = {axis for tensor in signature for axis in tensor.shape[1:] if isinstance(axis, str)}
    return len(firsts) == 1 and not firsts & others


def given_symbols(shapes: Shapes, signature: Sequence[TensorSignature]) -> dict[str, int]:
    """Checks shapes against the model's inputs and finds out what its symbols stand for.

    Args:
        shapes: as they were given.
        signature: the model's inputs.

    Returns:
        A number for each symbol, and for sums of symbols as they are written.

    Raises:
        DataError: an input is unknown, has another rank or another fixed axis, or inputs disagree
            about a symbol; the message names them.
    """
    inputs = {tensor.name: tensor for tensor in signature}
    batched = shares_batch_axis(signature)
    symbols: dict[str, tuple[int, str]] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            known = ", ".join(map(repr, inputs))
            raise DataError(f"a shape was given for {name!r}; the model's inputs are {known}")
        wanted = inputs[name].shape
        if wanted and len(shape) != len(wanted):
            raise DataError(
                f"{_told(name, shape)} has {len(shape)} axes, the model's {_in_words(wanted)} "
                f"has {len(wanted)}"
            )
        for at, (size, axis) in enumerate(zip(shape, wanted, strict=bool(wanted))):
            if isinstance(axis, int) and size != axis:
                raise DataError(f"{_told(name, shape)}: axis {at} is {axis} in the model")
            if at == 0 and batched and not isinstance(axis, int):
                if size != 1:
                    raise DataError(
                        f"{_told(name, shape)}: the first axis counts samples, so write 1 "
                        f"(--batch-size {size} runs so many at once)"
                    )
            elif isinstance(axis, str):
                known_size, where = symbols.setdefault(axis, (size, name))
                if known_size != size:
                    raise DataError(
                        f"shapes disagree: {axis!r} is {known_size} in input {where!r} and "
                        f"{size} in input {name!r}"
                    )
    numbers = {symbol: size for symbol, (size, _) in symbols.items()}
    for axis, (size, name) in symbols.items():
        total = sum_of(axis, numbers)
        if total is not None and total != size:
            raise DataError(
                f"shapes disagree: {axis!r} is {size} in input {name!r}, and {total} by the others"
            )
    return numbers


def sum_of(axis: str, symbols: Mapping[str, int]) -> int | None:
    """What a sum ("past + 1") comes to; None for a symbol, or where a term is not known."""
    terms = [term.strip() for term in axis.split("+")]
    if len(terms) < 2:
        return None
    numbers = [int(term) if term.isdecimal() else symbols.get(term) for term in terms]
    return sum(each for each in numbers if each is not None) if None not in numbers else None


def _told(name: str, shape: Sequence[int]) -> str:
    return f"the shape {'x'.join(map(str, shape))} given for input {name!r}"


def _in_words(shape: Sequence[int | str | None]) -> str:
    return f"({', '.join('?' if axis is None else str(axis) for axis in shape)})"
