"""Operators that work element by element, as numpy functions of what their operands hold.

NaN stands for what is not known; a product with zero is zero all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from onnxcompress.ir.model import Node

Operands = Sequence[np.ndarray]
"""What each input holds, in its place; `OMITTED` for an optional one that is not given."""

OMITTED: np.ndarray = np.empty(0)

Function = Callable[[Node, Operands], np.ndarray]


_FLOAT_TYPES = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})


def absorbing(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The product, and 0 where either factor is 0."""
    return np.where((left == 0) | (right == 0), 0.0, left * right)


def _divide(_: Node, given: Operands) -> np.ndarray:
    return np.asarray(np.where(given[0] == 0, 0.0, given[0] / given[1]))


def _clip(node: Node, given: Operands) -> np.ndarray:
    low, high = (
        given[place] if len(given) > place and given[place].size else np.array(otherwise)
        for place, otherwise in (
            (1, node.float_attr("min", -math.inf)),
            (2, node.float_attr("max", math.inf)),
        )
    )
    return np.minimum(np.maximum(given[0], low), high)


def _dropout(_: Node, given: Operands) -> np.ndarray:
    """What is asked to train drops some and scales the others."""
    trains = len(given) > 2 and given[2].size > 0 and bool((given[2] != 0).any())
    return np.where(given[0] == 0, 0.0, np.nan) if trains else given[0]


def _cast(node: Node, given: Operands) -> np.ndarray:
    """Zero and one are the same in every numeric type; other numbers only in wide float ones."""
    x = given[0]
    if node.int_attr("to", 0) in _FLOAT_TYPES:
        return x
    return np.where((x == 0) | (x == 1), x, np.nan)


def _gelu(node: Node, given: Operands) -> np.ndarray:
    x = given[0]
    if node.text_attr("approximate", "none") == "tanh":
        return x * (0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * (0.5 + 0.5 * _erf(x / math.sqrt(2)))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _elu(node: Node, given: Operands) -> np.ndarray:
    x = given[0]
    return np.where(x < 0, node.float_attr("alpha", 1.0) * np.expm1(x), x)


def _hard_sigmoid(node: Node, given: Operands) -> np.ndarray:
    alpha, beta = node.float_attr("alpha", 0.2), node.float_attr("beta", 0.5)
    return np.minimum(np.maximum(alpha * given[0] + beta, 0), 1)


def _leaky(node: Node, given: Operands) -> np.ndarray:
    x = given[0]
    return np.where(x < 0, node.float_attr("alpha", 0.01) * x, x)


def _where(_: Node, given: Operands) -> np.ndarray:
    first, second = given[1:]
    return np.where(first == second, first, np.nan)


def _of_one(function: Callable[[np.ndarray], np.ndarray]) -> Function:
    return lambda _, given: function(given[0])


def _of_two(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Function:
    return lambda _, given: function(given[0], given[1])


FUNCTIONS: Mapping[str, Function] = {
    "Abs": _of_one(np.abs),
    "Add": _of_two(np.add),
    "Cast": _cast,
    "Clip": _clip,
    "Div": _divide,
    "Dropout": _dropout,
    "Elu": _elu,
    "Erf": _of_one(_erf),
    "Exp": _of_one(np.exp),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _of_one(lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "Identity": _of_one(np.asarray),
    "LeakyRelu": _leaky,
    "Mul": _of_two(absorbing),
    "Neg": _of_one(np.negative),
    "PRelu": lambda _, given: np.where(given[0] < 0, absorbing(given[0], given[1]), given[0]),
    "Pow": _of_two(np.power),
    "Relu": _of_one(lambda x: np.maximum(x, 0)),
    "Sigmoid": _of_one(lambda x: 1 / (1 + np.exp(-x))),
    "Softplus": _of_one(lambda x: np.logaddexp(x, 0)),
    "Sqrt": _of_one(np.sqrt),
    "Sub": _of_two(np.subtract),
    "Tanh": _of_one(np.tanh),
    "Where": _where,
}
"""By operator; what is not here leaves its result unknown."""
