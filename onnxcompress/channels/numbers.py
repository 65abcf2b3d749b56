"""Numbers that a graph computes from shapes: what a Reshape is told, where a Slice begins.

Source of the semantics: the ONNX operators of the same names, opset 6 to 23.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxcompress.ir import elements, query
from onnxcompress.ir.model import STANDARD, Constant, Node, Tensor

Length = Callable[[Tensor, int], int]
"""The length of an axis."""

_LARGEST = 4096
"""Elements; what is larger holds no lengths."""

_DEEPEST = 200
"""Nodes from a number back to the shapes it is made of."""


class Numbers:
    """Computes what nodes make of shapes and stored numbers alone.

    Args:
        shapes: of all tensors, as one sample has them.
        length: tells lengths; those of `shapes` by default.
    """

    def __init__(self, shapes: Mapping[Tensor, tuple[int, ...]], length: Length | None = None):
        self._shapes = shapes
        self._length = length or (lambda tensor, axis: shapes[tensor][axis])
        self._known: dict[Tensor, np.ndarray | None] = {}

    def of(self, tensor: Tensor) -> np.ndarray | None:
        """The numbers that a tensor holds; None if they depend on more than shapes."""
        return self._of(tensor, 0)

    def _of(self, tensor: Tensor, depth: int) -> np.ndarray | None:
        if tensor not in self._known:
            self._known[tensor] = self._computed(tensor, depth)
        return self._known[tensor]

    def _computed(self, tensor: Tensor, depth: int) -> np.ndarray | None:
        if isinstance(tensor, Constant):
            return tensor.values if tensor.size <= _LARGEST else None
        node = query.producer(tensor)
        if node is None or node.domain not in STANDARD or depth > _DEEPEST:
            return None
        if math.prod(self._shapes.get(tensor, (_LARGEST + 1,))) > _LARGEST:
            return None
        if node.op == "Shape":
            return self._shape(node)
        rule = _RULES.get(node.op)
        if rule is None:
            return None
        given = []
        for each in node.inputs:
            value = None if query.is_omitted(each) else self._of(each, depth + 1)
            if value is None and not query.is_omitted(each):
                return None
            given.append(value)
        try:
            with np.errstate(all="ignore"):
                result: np.ndarray = np.asarray(rule(node, given))
        except (ArithmeticError, IndexError, TypeError, ValueError):  # lengths that do not fit
            return None
        return result

    def _shape(self, node: Node) -> np.ndarray | None:
        x = node.inputs[0]
        if x not in self._shapes:
            return None
        rank = len(self._shapes[x])
        axes = range(rank)[node.int_attr("start", 0) : node.int_attr("end", rank)]
        return np.array([self._length(x, axis) for axis in axes], np.int64)


def changed(length: int) -> int:
    """Another length, by which numbers that depend on it show."""
    return 7 * length + 13


Given = Sequence["np.ndarray | None"]
Rule = Callable[[Node, Given], "np.ndarray"]


def _some(given: Given, place: int) -> np.ndarray:
    value = given[place]
    if value is None:
        raise ValueError(f"input {place} is needed")
    return value


def _axes(node: Node, given: Given) -> tuple[int, ...] | None:
    if len(given) > 1 and given[1] is not None:
        return tuple(given[1].reshape(-1).tolist())
    return node.ints_attr("axes") or None


def _of_two(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Rule:
    return lambda _, given: function(_some(given, 0), _some(given, 1))


def _of_one(function: Callable[[np.ndarray], np.ndarray]) -> Rule:
    return lambda _, given: function(_some(given, 0))


def _div(_: Node, given: Given) -> np.ndarray:
    a, b = _some(given, 0), _some(given, 1)
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)))


def _cast(node: Node, given: Given) -> np.ndarray:
    return _some(given, 0).astype(elements.dtype_of(node.int_attr("to", 1)))


def _concat(node: Node, given: Given) -> np.ndarray:
    parts = [_some(given, place) for place in range(len(given))]
    return np.concatenate(parts, node.int_attr("axis", 0))


def _gather(node: Node, given: Given) -> np.ndarray:
    return np.take(_some(given, 0), _some(given, 1), axis=node.int_attr("axis", 0))


def _slice(node: Node, given: Given) -> np.ndarray:
    x = _some(given, 0)
    window: list[slice] = [slice(None)] * x.ndim
    for axis, part in windows(node, given[1:], x.ndim).items():
        window[axis] = part
    return x[tuple(window)]


def windows(node: Node, bounds: Given, rank: int) -> dict[int, slice]:
    """What a Slice takes of each axis that it names.

    Args:
        node: the Slice; before opset 10 its attributes say what it takes.
        bounds: starts, ends, axes and steps; None for what is omitted.
        rank: axes of what it slices.
    """
    starts: Sequence[int]
    ends: Sequence[int]
    if not bounds:
        starts, ends = node.ints_attr("starts"), node.ints_attr("ends")
        axes: Sequence[int] = node.ints_attr("axes", range(len(starts)))
        steps: Sequence[int] = (1,) * len(starts)
    else:
        starts, ends = (_some(bounds, place).reshape(-1).tolist() for place in (0, 1))
        axes = _counts(bounds, 2) or range(len(starts))
        steps = _counts(bounds, 3) or (1,) * len(starts)
    found = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # A negative end behind a negative step means "before the first".
        last = None if step < 0 and end < -(2**30) else end
        found[axis % rank] = slice(start, last, step)
    return found


def _counts(given: Given, place: int) -> list[int]:
    value = given[place] if len(given) > place else None
    return [] if value is None else [int(each) for each in value.reshape(-1)]


def _unsqueeze(node: Node, given: Given) -> np.ndarray:
    return np.expand_dims(_some(given, 0), _axes(node, given) or ())


def _squeeze(node: Node, given: Given) -> np.ndarray:
    return np.squeeze(_some(given, 0), _axes(node, given))


def _reshape(node: Node, given: Given) -> np.ndarray:
    x = _some(given, 0)
    target = _some(given, 1).tolist()
    if not node.int_attr("allowzero", 0):
        target = [size or x.shape[axis] for axis, size in enumerate(target)]
    return x.reshape(target)


def _filled(node: Node, given: Given) -> np.ndarray:
    value = query.tensor_attribute(node, "value")
    filling = np.zeros(1, np.float32) if value is None else value
    shape = _some(given, 0).tolist()
    if math.prod(shape) > _LARGEST:
        raise ValueError("too large")
    return np.full(shape, filling.reshape(-1)[0], filling.dtype)


def _expand(_: Node, given: Given) -> np.ndarray:
    x, shape = _some(given, 0), _some(given, 1).tolist()
    return x * np.ones(shape, x.dtype)


def _range(_: Node, given: Given) -> np.ndarray:
    start, end, step = (_some(given, place).reshape(-1)[0] for place in range(3))
    if (end - start) / step > _LARGEST:
        raise ValueError("too large")
    return np.arange(start, end, step)


def _transpose(node: Node, given: Given) -> np.ndarray:
    x = _some(given, 0)
    return np.transpose(x, node.ints_attr("perm", tuple(reversed(range(x.ndim)))))


def _product(node: Node, given: Given) -> np.ndarray:
    axes = _axes(node, given)
    kept = bool(node.int_attr("keepdims", 1))
    return np.asarray(np.prod(_some(given, 0), axis=axes, keepdims=kept))


def _where(_: Node, given: Given) -> np.ndarray:
    return np.where(_some(given, 0), _some(given, 1), _some(given, 2))


_RULES: Mapping[str, Rule] = {
    "Add": _of_two(np.add),
    "And": _of_two(np.logical_and),
    "Cast": _cast,
    "Ceil": _of_one(np.ceil),
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Div": _div,
    "Equal": _of_two(np.equal),
    "Expand": _expand,
    "Floor": _of_one(np.floor),
    "Gather": _gather,
    "Greater": _of_two(np.greater),
    "Identity": _of_one(np.asarray),
    "Less": _of_two(np.less),
    "Max": _of_two(np.maximum),
    "Min": _of_two(np.minimum),
    "Mod": _of_two(np.mod),
    "Mul": _of_two(np.multiply),
    "Neg": _of_one(np.negative),
    "Not": _of_one(np.logical_not),
    "Or": _of_two(np.logical_or),
    "Range": _range,
    "ReduceProd": _product,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _of_two(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
