"""Ranges of activations, chosen by what they do to the outputs of the nodes that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.model import Model, Node, Tensor
from onnxcompress.pass_base import Context
from onnxcompress.qdq.matrices import inputs_of, to_matrices
from onnxcompress.quantization.observers import Observer, Range
from onnxcompress.quantization.qparams import activation_qparams, dequantize, quantize

_POSITIONS = 64
"""Output positions taken of each sample; neighbours in a picture say much the same."""

_CHOICES = tuple(each for each in Observer if each is not Observer.OUTPUT_ERROR)


def least_output_error(
    model: Model, readers: Mapping[Tensor, Sequence[Node]], dtype: np.dtype, context: Context
) -> dict[str, Range]:
    """Of the ranges that the observers propose for a tensor, the one its readers suffer least from.

    Their output error is the mean of its square over the calibration data, relative to the mean
    square of the output, summed over the readers. To it comes the square of what is left of the
    error when it is summed over the positions of a sample. Rounding goes either way and cancels
    there; what a range cuts off always errs to one side, and pooling, attention and residual
    connections add it up: judged by the first term alone, MiniLM-L6 loses 1 dB against min-max.

    Args:
        model: the model.
        readers: the Conv, Gemm and MatMul nodes with a stored weight that read each tensor; where
            there are none, the error of the tensor itself decides.
        dtype: the integer type the tensors become.
        context: where the data comes from.

    Returns:
        Ranges by tensor name.
    """
    names = [tensor.name for tensor in readers]
    proposed = [context.ranges(model, names, observer) for observer in _CHOICES]
    fallback = context.ranges(model, names, Observer.OUTPUT_ERROR)
    trials = [
        _Trial(tensor, nodes, list(dict.fromkeys(ranges[tensor.name] for ranges in proposed)))
        for tensor, nodes in readers.items()
        if nodes
    ]
    open_trials = [trial for trial in trials if len(trial.ranges) > 1]
    if open_trials:
        wanted = [trial.tensor.name for trial in open_trials]
        for batch in context.activations(model, wanted):
            for trial in open_trials:
                trial.add(batch[trial.tensor.name], dtype)
    return {**fallback, **{trial.tensor.name: trial.best for trial in trials}}


class _Trial:
    """The ranges proposed for one tensor, and what each has cost so far."""

    def __init__(self, tensor: Tensor, nodes: Sequence[Node], ranges: list[Range]):
        self.tensor = tensor
        self.ranges = ranges
        self._weights = {node: _matrices(node) for node in nodes}
        self._powers = dict.fromkeys(nodes, 0.0)
        self._errors = {node: np.zeros(len(ranges)) for node in nodes}

    def add(self, values: np.ndarray, dtype: np.dtype) -> None:
        samples = len(values) if values.ndim > 1 else 1
        for node, weights in self._weights.items():
            rows = inputs_of(node, values, _POSITIONS)
            self._powers[node] += _power(rows, weights)
            for index, each in enumerate(self.ranges):
                qparams = activation_qparams(each, dtype)
                error = dequantize(quantize(rows, qparams), qparams) - rows
                groups, _, features = error.shape
                summed = error.reshape(groups, samples, -1, features).sum(axis=2)
                self._errors[node][index] += _power(error, weights) + _power(summed, weights)

    @property
    def best(self) -> Range:
        tiny = np.finfo(np.float64).tiny
        relative = [self._errors[node] / max(self._powers[node], tiny) for node in self._errors]
        return self.ranges[int(np.argmin(sum(relative)))]


def _matrices(node: Node) -> np.ndarray:
    weight = query.constant(node, 1)
    assert weight is not None
    return to_matrices(node, weight.values).transpose(0, 2, 1)


def _power(rows: np.ndarray, weights: np.ndarray) -> float:
    """The sum of the squares of [groups, n, features] times [groups, features, outputs]."""
    product = np.matmul(rows, weights)
    return float(np.sum(np.square(product), dtype=np.float64))
