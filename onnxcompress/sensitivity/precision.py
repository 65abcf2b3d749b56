"""The precisions that sensitivity is asked about: passes, each with a short name."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from onnxcompress.errors import RecipeError
from onnxcompress.pass_base import Pass
from onnxcompress.passes import QuantizeStatic, QuantizeWeights
from onnxcompress.registry import options, read_options
from onnxcompress.search.candidates import Traits

DEFAULT_BITS = (8, 4, 2)


def weight_precisions(bits: Sequence[int] = DEFAULT_BITS) -> tuple[Pass, ...]:
    """`quantize-weights` at some widths; below 8 bits with a scale for each block.

    Raises:
        RecipeError: a width does not exist.
    """
    return tuple(
        QuantizeWeights(
            **read_options(
                QuantizeWeights,
                {"bits": width, "granularity": "per-block" if width < 8 else "per-channel"},
            )
        )
        for width in bits
    )


def default_precisions(traits: Traits) -> tuple[Pass, ...]:
    """Static int8 for convolutional networks with data, else weights of 8, 4 and 2 bits."""
    if traits.has_data and traits.convolution_weights > traits.product_weights:
        return (QuantizeStatic(),)
    return weight_precisions()


def labels(precisions: Sequence[Pass]) -> list[str]:
    """Names for passes, no two alike: the option in which they differ, or as many as it takes.

    Raises:
        RecipeError: two of them are the same.
    """
    if len(set(precisions)) != len(precisions):
        raise RecipeError("a pass is asked about twice with the same options")
    if len({each.name for each in precisions}) == len(precisions):
        return [each.name for each in precisions]
    if len({type(each) for each in precisions}) == 1:
        for name in options(type(precisions[0])):
            values = [_shown(getattr(each, name)) for each in precisions]
            if len(set(values)) == len(precisions):
                return [f"{name}={value}" for value in values]
    return [_in_full(each) for each in precisions]


def _in_full(pass_: Pass) -> str:
    """The pass as the command line writes it."""
    plain = type(pass_)()
    changed = [
        name for name in options(type(pass_)) if getattr(pass_, name) != getattr(plain, name)
    ]
    given = ",".join(f"{name}={_shown(getattr(pass_, name))}" for name in changed)
    return f"{pass_.name}:{given}" if given else pass_.name


def _shown(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)
