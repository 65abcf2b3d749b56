"""What is tried when no recipe is given, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from onnxcompress.ir import query
from onnxcompress.ir.model import Model
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.ir.views import sources
from onnxcompress.pass_base import Override, Pass
from onnxcompress.passes import (
    GPTQ,
    FoldAffine,
    FoldBatchNorm,
    FoldConstants,
    FoldPad,
    MergeDuplicates,
    MergeMatMuls,
    PalettizeWeights,
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeWeights,
    RemoveNoOps,
    RemoveUnused,
    SmoothActivations,
    UnfuseSkipNorm,
)
from onnxcompress.qdq.candidates import RECURRENT_OPS
from onnxcompress.qdq.integer_weights import WeightBits, WeightGranularity, WeightScales
from onnxcompress.qdq.recurrent import RECURRENT_WEIGHTS
from onnxcompress.qdq.weight_forms import WeightForm
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
        recurrent_weights: elements in stored weights of LSTM, GRU and RNN.
        product_rows: rows that the product with the largest weight sees; None if it is not known.
    """

    convolution_weights: int
    product_weights: int
    has_data: bool
    goal: Goal
    recurrent_weights: int = 0
    product_rows: int | None = None

    @property
    def has_products(self) -> bool:
        """Whether there are matrix products with stored weights, recurrent ones included."""
        return self.product_weights + self.recurrent_weights > 0


def traits_of(model: Model, *, has_data: bool, goal: Goal) -> Traits:
    """Reads the traits off a model; weights behind views of stored tensors count."""
    indices = {
        **{op: (spec.weight,) for op, spec in WEIGHTED_OPS.items()},
        **dict.fromkeys(RECURRENT_OPS, RECURRENT_WEIGHTS),
    }
    elements = dict.fromkeys(indices, 0)
    for node in query.nodes(model, indices):
        weights = [tensor for i, tensor in enumerate(node.inputs) if i in indices[node.op]]
        found = (stored for tensor in weights for stored in sources(tensor) or ())
        elements[node.op] += sum(stored.size for stored in found)
    return Traits(
        convolution_weights=elements["Conv"] + elements["ConvTranspose"],
        product_weights=elements["MatMul"] + elements["Gemm"],
        has_data=has_data,
        goal=goal,
        recurrent_weights=sum(elements[op] for op in RECURRENT_OPS),
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
    return None if traits.has_products else "there are no MatMul, Gemm or recurrent weights"


def _needs_mostly_products(traits: Traits) -> str | None:
    if traits.product_weights <= traits.convolution_weights:
        return "outliers are smoothed for MatMul and Gemm, which hold less than the convolutions"
    return None if traits.has_data else "finding outliers needs data (--data)"


def _needs_both(traits: Traits) -> str | None:
    if not traits.convolution_weights or not traits.has_products:
        return "needs convolutions and matrix products side by side"
    return _needs_data(traits)


def _for_size(traits: Traits) -> str | None:
    return None if traits.goal is Goal.SIZE else "saves bytes, not time (--goal size tries it)"


def _for_size_or_few_rows(traits: Traits) -> str | None:
    few = traits.product_rows is not None and traits.product_rows <= _FEW_ROWS
    gains = few and traits.product_weights > traits.convolution_weights
    return None if gains else _for_size(traits)


def _calibrated_size(traits: Traits) -> str | None:
    reason = None if traits.has_data else "rounding by outputs needs data (--data)"
    return _for_size(traits) or reason


_FEW_ROWS = 4
"""Up to here reading fewer bytes makes a product faster; see `qdq.weight_forms`."""

_NO_PRODUCTS = Override(None, op_types=("MatMul", "Gemm"))
_TABLES_ONLY = QuantizeWeights(
    overrides=(Override(None, op_types=tuple(WEIGHTED_OPS)),),
)

_INT4 = QuantizeWeights(
    bits=WeightBits.FOUR,
    symmetric=False,
    granularity=WeightGranularity.PER_BLOCK,
    scales=WeightScales.FITTED,
    form=WeightForm.AUTO,
)


def _static(*passes: Pass) -> Recipe:
    """A static recipe; what it cannot reach, tables and recurrent weights, is stored as int8."""
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
        name="smooth-dynamic-int8",
        recipe=Recipe.of([SmoothActivations(add_nodes=True), QuantizeDynamic()]),
        unfit=_needs_mostly_products,
    ),
    Candidate(
        name="static-dynamic-int8",
        recipe=Recipe.of([QuantizeStatic(overrides=(_NO_PRODUCTS,)), QuantizeDynamic()]),
        unfit=_needs_both,
    ),
    Candidate(
        name="weights-int8",
        recipe=Recipe.of([QuantizeWeights(form=WeightForm.AUTO)]),
        unfit=_for_size_or_few_rows,
    ),
    Candidate(name="palette-16", recipe=Recipe.of([PalettizeWeights()]), unfit=_for_size),
    Candidate(name="weights-int4", recipe=Recipe.of([_INT4]), unfit=_for_size_or_few_rows),
    Candidate(
        name="gptq-int4",
        recipe=Recipe.of([GPTQ(symmetric=False, form=WeightForm.AUTO), _INT4]),
        unfit=_calibrated_size,
    ),
)
"""Tried in this order; all that fit are measured."""
