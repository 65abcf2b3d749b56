"""What is tried when no recipe is given, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from onnxcompress.ir import query
from onnxcompress.ir.model import Model
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.pass_base import Override, Pass
from onnxcompress.passes import (
    FoldAffine,
    FoldBatchNorm,
    FoldConstants,
    FoldPad,
    MergeDuplicates,
    MergeMatMuls,
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeWeights,
    RemoveNoOps,
    RemoveUnused,
    UnfuseSkipNorm,
)
from onnxcompress.quantization.observers import Observer
from onnxcompress.recipe import Recipe

CLEAN_UP: tuple[Pass, ...] = (
    FoldConstants(),
    RemoveNoOps(),
    FoldPad(),
    FoldBatchNorm(),
    FoldAffine(),
    MergeDuplicates(),
    MergeMatMuls(),
    UnfuseSkipNorm(),
    RemoveUnused(),
)
"""The exact passes that every candidate starts from."""

CLEANED = "cleaned"
"""The candidate that is cleaned up and nothing else."""


class Goal(Enum):
    """What the best candidate is best at."""

    SPEED = "speed"
    SIZE = "size"


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What decides which candidates make sense.

    Attributes:
        convolution_weights: elements in stored weights of convolutions.
        product_weights: elements in stored weights of MatMul and Gemm.
        has_data: whether there are real samples to calibrate on.
        goal: what the user wants most.
    """

    convolution_weights: int
    product_weights: int
    has_data: bool
    goal: Goal


def traits_of(model: Model, *, has_data: bool, goal: Goal) -> Traits:
    """Reads the traits off a model."""
    elements = dict.fromkeys(WEIGHTED_OPS, 0)
    for node in query.nodes(model, WEIGHTED_OPS):
        weight = query.constant(node, WEIGHTED_OPS[node.op].weight)
        elements[node.op] += weight.size if weight is not None else 0
    return Traits(
        convolution_weights=elements["Conv"] + elements["ConvTranspose"],
        product_weights=elements["MatMul"] + elements["Gemm"],
        has_data=has_data,
        goal=goal,
    )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe worth trying, after clean-up, for some models.

    Attributes:
        name: what the report calls it.
        recipe: the passes.
        unfit: why it is not tried on a model with these traits; None if it is.
    """

    name: str
    recipe: Recipe
    unfit: Callable[[Traits], str | None]


def _needs_data(traits: Traits) -> str | None:
    return None if traits.has_data else "activation ranges need data (--data)"


def _needs_convolutions(traits: Traits) -> str | None:
    if not traits.convolution_weights:
        return "there are no convolutions, for which the choice of range matters most"
    return _needs_data(traits)


def _needs_products(traits: Traits) -> str | None:
    return None if traits.product_weights else "there are no MatMul or Gemm weights"


def _needs_both(traits: Traits) -> str | None:
    if not traits.convolution_weights or not traits.product_weights:
        return "needs convolutions and matrix products side by side"
    return _needs_data(traits)


def _for_size(traits: Traits) -> str | None:
    return None if traits.goal is Goal.SIZE else "saves bytes, not time (--goal size tries it)"


_NO_PRODUCTS = Override(None, op_types=("MatMul", "Gemm"))
_TABLES_ONLY = QuantizeWeights(
    overrides=(Override(None, op_types=tuple(WEIGHTED_OPS)),),
)


def _static(*passes: Pass) -> Recipe:
    """A static recipe; what it cannot reach, the embedding tables, becomes int8 rows."""
    return Recipe((*passes, _TABLES_ONLY))


CANDIDATES: tuple[Candidate, ...] = (
    Candidate(name="static-int8", recipe=_static(QuantizeStatic()), unfit=_needs_data),
    Candidate(
        name="static-int8-percentile",
        recipe=_static(QuantizeStatic(observer=Observer.PERCENTILE)),
        unfit=_needs_convolutions,
    ),
    Candidate(
        name="static-int8-mse",
        recipe=_static(QuantizeStatic(observer=Observer.MSE)),
        unfit=_needs_convolutions,
    ),
    Candidate(
        name="static-int8-float-1",
        recipe=_static(QuantizeStatic(float_prefix=1)),
        unfit=_needs_convolutions,
    ),
    Candidate(
        name="static-int8-float-2",
        recipe=_static(QuantizeStatic(float_prefix=2)),
        unfit=_needs_convolutions,
    ),
    Candidate(name="dynamic-int8", recipe=Recipe.of([QuantizeDynamic()]), unfit=_needs_products),
    Candidate(
        name="static-dynamic-int8",
        recipe=Recipe.of([QuantizeStatic(overrides=(_NO_PRODUCTS,)), QuantizeDynamic()]),
        unfit=_needs_both,
    ),
    Candidate(name="weights-int8", recipe=Recipe.of([QuantizeWeights()]), unfit=_for_size),
)
"""Tried in this order; all that fit are measured."""
