"""What is known of an output before it is judged: what made it, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.data.casting import Kind, is_float, kind_of
from onnxcompress.ir import query
from onnxcompress.ir.model import Model, Tensor
from onnxcompress.measure.predictions import Output

if TYPE_CHECKING:
    from onnxcompress.runtime.session import TensorSignature

_PASSED_THROUGH: Final = frozenset(
    {
        "Identity",
        "Cast",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Transpose",
        "Dropout",
        "DequantizeLinear",
        "QuantizeLinear",
    }
)
"""Operators that leave what an output says as it is."""

_SUM_TOLERANCE: Final = 2e-3


@dataclass(frozen=True, kw_only=True)
class OutputFacts:
    """One output of the original.

    Attributes:
        name: of the output.
        declared: what the model says of its shape.
        op: the operator that computes it, looked for behind reshapes and casts; empty if unknown.
        fed_back: the input that takes it at the next step, if names and shapes say so.
        batch_first: whether the first axis is samples.
        is_bounded: whether its values are scores between 0 and 1 by how they are computed.
        looked: what it says on some samples; without the batch axis for each sample.
    """

    name: str
    declared: tuple[int | str | None, ...]
    op: str
    fed_back: str | None
    batch_first: bool
    is_bounded: bool
    looked: Output

    @property
    def dtype_kind(self) -> Kind:
        """What its elements are; `OTHER` for maps and sequences."""
        first = self.looked[0] if isinstance(self.looked, list) else self.looked
        if first.dtype != object:
            return kind_of(first.dtype)
        are_texts = all(isinstance(item, str | bytes) for item in self._objects)
        return Kind.TEXT if are_texts else Kind.OTHER

    @property
    def has_maps(self) -> bool:
        """Whether each sample is a dictionary from keys to numbers, as ZipMap makes them."""
        return bool(self._objects) and all(
            isinstance(item, dict)
            and all(isinstance(value, int | float | np.number) for value in item.values())
            for item in self._objects
        )

    @cached_property
    def _objects(self) -> list[Any]:
        """What is no number: texts, maps, or nothing where an optional is empty."""
        arrays = self.looked if isinstance(self.looked, list) else [self.looked]
        return [item for array in arrays if array.dtype == object for item in array.flat]

    @property
    def varies_in_shape(self) -> bool:
        """Whether samples differ in shape."""
        return isinstance(self.looked, list)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of one sample; of the first where they differ."""
        return self.looked[0].shape if isinstance(self.looked, list) else self.looked.shape[1:]

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """All samples that were looked at, float64; flattened to one axis where shapes differ."""
        if isinstance(self.looked, list):
            return np.concatenate([each.astype(np.float64).ravel() for each in self.looked])
        return self.looked.astype(np.float64)

    @cached_property
    def are_fractions(self) -> bool:
        """Whether all values lie between 0 and 1."""
        values = self.values
        return bool(values.size) and bool(values.min() >= 0) and bool(values.max() <= 1 + 1e-6)

    def sums_to_one(self, axis: int) -> bool:
        """Whether the values are probabilities along an axis of a sample of two places or more."""
        arrays = self.looked if isinstance(self.looked, list) else [self.looked]
        axis = axis if isinstance(self.looked, list) or axis < 0 else axis + 1
        for array in arrays:
            if array.shape[axis] < 2 or array.min() < 0:
                return False
            if np.abs(array.astype(np.float64).sum(axis=axis) - 1).max() > _SUM_TOLERANCE:
                return False
        return True

    def logs_sum_to_one(self, axis: int) -> bool:
        """Whether the values are logarithms of probabilities along an axis."""
        arrays = self.looked if isinstance(self.looked, list) else [self.looked]
        axis = axis if isinstance(self.looked, list) or axis < 0 else axis + 1
        for array in arrays:
            if array.shape[axis] < 2 or array.max() > 1e-6:
                return False
            total = np.exp(array.astype(np.float64)).sum(axis=axis)
            if np.abs(total - 1).max() > _SUM_TOLERANCE:
                return False
        return True


def facts_of(
    outputs: Sequence[TensorSignature],
    inputs: Sequence[TensorSignature],
    looked: Mapping[str, Output],
    batch_first: Mapping[str, bool],
    model: Model | None,
) -> tuple[OutputFacts, ...]:
    """Collects what is known of every output.

    Args:
        outputs: of the original, in its order.
        inputs: of the original.
        looked: what it says on some samples, by output name.
        batch_first: for each output, whether its first axis is samples.
        model: the graph; without it no operators are known.
    """
    fed_back = _fed_back(outputs, inputs)
    return tuple(
        OutputFacts(
            name=output.name,
            declared=output.shape,
            op=_operator(model, output.name) if model is not None else "",
            fed_back=fed_back.get(output.name),
            batch_first=batch_first[output.name],
            is_bounded=model is not None and _gives_fractions(_output(model, output.name)),
            looked=looked[output.name],
        )
        for output in outputs
    )


def _output(model: Model, name: str) -> Tensor | None:
    return next((each for each in model.graph.outputs if each.name == name), None)


def _operator(model: Model, name: str) -> str:
    tensor = _output(model, name)
    node = query.producer(tensor) if tensor is not None else None
    while node is not None and node.op in _PASSED_THROUGH and node.inputs:
        before = query.producer(node.inputs[0])
        if before is None:
            break
        node = before
    return node.op if node is not None else ""


_FRACTIONS: Final = frozenset(
    {
        "Sigmoid",
        "Softmax",
        "HardSigmoid",
        "Hardmax",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "TreeEnsembleClassifier",
        "SVMClassifier",
        "LinearClassifier",
        "ZipMap",
    }
)
"""Operators whose results lie between 0 and 1."""

_KEEPS_BOUNDS: Final = _PASSED_THROUGH | {
    "ReduceMax",
    "ReduceMin",
    "ReduceMean",
    "Max",
    "Min",
    "Mul",
    "Concat",
    "Slice",
    "Split",
    "Gather",
    "GatherND",
    "Pad",
    "Resize",
    "MaxPool",
    "AveragePool",
    "TopK",
}
"""Operators whose results lie between 0 and 1 if all they read does."""

_DEPTH: Final = 16


def _gives_fractions(tensor: Tensor | None, depth: int = _DEPTH) -> bool:
    """Whether a tensor lies between 0 and 1 by what computes it."""
    node = query.producer(tensor) if tensor is not None else None
    if node is None or depth == 0:
        return False
    if node.op in _FRACTIONS:
        return True
    if node.op not in _KEEPS_BOUNDS:
        return False
    read = node.inputs if node.op in ("Max", "Min", "Mul", "Concat") else node.inputs[:1]
    return bool(read) and all(_gives_fractions(each, depth - 1) for each in read)


_PREFIXES: Final = (
    ("present", "past"),
    ("present", "past_key_values"),
    ("present_key_values", "past_key_values"),
    ("new_", ""),
    ("next_", ""),
    ("", "prev_"),
    ("", "init_"),
    ("", "initial_"),
    ("out_", "in_"),
    ("output_", "input_"),
)
"""How exporters name what a model gives (first) and takes back at the next step (second)."""

_SUFFIXES: Final = (
    ("n", ""),
    ("N", ""),
    ("n", "0"),
    ("_n", "_0"),
    ("_out", "_in"),
    ("_out", ""),
    ("_output", "_input"),
    ("_new", ""),
    ("_next", ""),
    ("o", "i"),
    (".1", ""),
)


def _fed_back(
    outputs: Sequence[TensorSignature], inputs: Sequence[TensorSignature]
) -> dict[str, str]:
    """The input that takes each output back, by output name; both have one rank and dtype."""
    found = {}
    by_name = {each.name: each for each in inputs}
    for output in outputs:
        for name in _taken_back_as(output.name):
            candidate = by_name.get(name)
            if candidate is None or not is_float(output.dtype):
                continue
            if candidate.dtype == output.dtype and len(candidate.shape) == len(output.shape):
                found[output.name] = name
                break
    return found


def _taken_back_as(name: str) -> list[str]:
    names = [
        before + name.removeprefix(after) for after, before in _PREFIXES if name.startswith(after)
    ]
    names += [
        name.removesuffix(after) + before for after, before in _SUFFIXES if name.endswith(after)
    ]
    return [each for each in names if each != name]
