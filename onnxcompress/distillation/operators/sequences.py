"""Sequences of tensors, and optionals.

Source: ONNX Sequence*, SplitToSequence, ConcatFromSequence (opset 11), Optional* (opsets 15, 18).
"""

from __future__ import annotations

import torch

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.values import Value, integers


def _construct(call: Call, *tensors: torch.Tensor) -> list[torch.Tensor]:
    del call
    return list(tensors)


def _empty(call: Call) -> list[torch.Tensor]:
    del call
    return []


def _at(call: Call, sequence: list[torch.Tensor], position: torch.Tensor) -> torch.Tensor:
    del call
    return sequence[int(position)]


def _insert(
    call: Call,
    sequence: list[torch.Tensor],
    x: torch.Tensor,
    position: torch.Tensor | None = None,
) -> list[torch.Tensor]:
    del call
    at = len(sequence) if position is None else int(position)
    return [*sequence[:at], x, *sequence[at:]]


def _erase(
    call: Call, sequence: list[torch.Tensor], position: torch.Tensor | None = None
) -> list[torch.Tensor]:
    del call
    at = (-1 if position is None else int(position)) % len(sequence)
    return [*sequence[:at], *sequence[at + 1 :]]


def _length(call: Call, sequence: list[torch.Tensor]) -> torch.Tensor:
    del call
    return torch.tensor(len(sequence))


def _concat_from(call: Call, sequence: list[torch.Tensor]) -> torch.Tensor:
    axis = call.integer("axis", 0)
    if call.integer("new_axis", 0):
        return torch.stack(sequence, axis)
    return torch.cat(sequence, axis)


def _split_to(call: Call, x: torch.Tensor, split: torch.Tensor | None = None) -> list[torch.Tensor]:
    axis = call.integer("axis", 0)
    if split is None:
        parts = torch.split(x, 1, axis)
        keep = call.integer("keepdims", 1)
        return list(parts) if keep else [part.squeeze(axis) for part in parts]
    if split.dim() == 0:
        return list(torch.split(x, int(split), axis))
    return list(torch.split(x, list(integers(split)), axis))


def _optional(call: Call, value: Value = None) -> Value:
    del call
    return value


def _has_element(call: Call, value: Value = None) -> torch.Tensor:
    del call
    return torch.tensor(value is not None)


def _get_element(call: Call, value: Value) -> Value:
    if value is None:
        raise call.unsupported("the optional is empty")
    return value


TABLE: Table = {
    "ConcatFromSequence": _concat_from,
    "Optional": _optional,
    "OptionalGetElement": _get_element,
    "OptionalHasElement": _has_element,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SplitToSequence": _split_to,
}
