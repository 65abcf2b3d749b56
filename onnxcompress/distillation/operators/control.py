"""Nodes that run a graph of their own.

Source: ONNX If, Loop (opsets 1 to 25), Scan (opsets 9 to 25), SequenceMap (opset 17).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.values import Value, as_tensor
from onnxcompress.ir.model import Graph


def _if(call: Call, condition: torch.Tensor) -> tuple[Value, ...]:
    return tuple(call.run_body(call.body("then_branch" if condition else "else_branch"), []))


def _loop(
    call: Call, limit: torch.Tensor | None, condition: torch.Tensor | None, *carried: Value
) -> tuple[Value, ...]:
    body = call.body("body")
    state: Sequence[Value] = carried
    scanned: list[list[torch.Tensor]] = [[] for _ in body.outputs[1 + len(carried) :]]
    trip = 0
    proceed = condition is None or bool(condition)
    while proceed and (limit is None or trip < int(limit)):
        found = call.run_body(body, [torch.tensor(trip), torch.tensor(True), *state])
        proceed, state = bool(found[0]), found[1 : 1 + len(carried)]
        for rows, row in zip(scanned, found[1 + len(carried) :], strict=True):
            rows.append(as_tensor(row))
        trip += 1
    return (*state, *_stacked(call, body, scanned, 1 + len(carried)))


def _stacked(
    call: Call, body: Graph, scanned: Sequence[Sequence[torch.Tensor]], first: int
) -> list[torch.Tensor]:
    """One tensor of each scan output's rows, along a new axis 0."""
    if any(not rows for rows in scanned):
        names = [output.name for output in body.outputs[first:]]
        raise call.unsupported(f"the body never ran, so {names} have no shape")
    return [torch.stack(list(rows)) for rows in scanned]


def _scan(call: Call, *inputs: Value) -> tuple[Value, ...]:
    if call.opset < 9:
        raise call.unsupported("Scan over batches, as before opset 9")
    body = call.body("body")
    count = call.integer("num_scan_inputs", 0)
    state: Sequence[Value] = inputs[: len(inputs) - count]
    outputs = len(body.outputs) - len(state)
    axes = call.integers("scan_input_axes", [0] * count)
    backward = call.integers("scan_input_directions", [0] * count)
    rows_of = [
        _in_order(list(as_tensor(each).unbind(axis)), flag)
        for each, axis, flag in zip(inputs[len(state) :], axes, backward, strict=True)
    ]
    scanned: list[list[torch.Tensor]] = [[] for _ in range(outputs)]
    for rows in zip(*rows_of, strict=True):
        found = call.run_body(body, [*state, *rows])
        for column, row in zip(scanned, found[len(state) :], strict=True):
            column.append(as_tensor(row))
        state = found[: len(state)]
    placed = call.integers("scan_output_axes", [0] * outputs)
    turned = call.integers("scan_output_directions", [0] * outputs)
    ordered = [_in_order(rows, flag) for rows, flag in zip(scanned, turned, strict=True)]
    stacked = _stacked(call, body, ordered, len(state))
    return (*state, *(x.movedim(0, axis) for x, axis in zip(stacked, placed, strict=True)))


def _in_order(rows: list[torch.Tensor], backward: int) -> list[torch.Tensor]:
    return rows[::-1] if backward else rows


def _sequence_map(call: Call, sequence: list[torch.Tensor], *others: Value) -> tuple[Value, ...]:
    body = call.body("body")
    found = [
        call.run_body(body, [x, *(each[at] if isinstance(each, list) else each for each in others)])
        for at, x in enumerate(sequence)
    ]
    return tuple([as_tensor(outputs[at]) for outputs in found] for at in range(len(body.outputs)))


TABLE: Table = {"If": _if, "Loop": _loop, "Scan": _scan, "SequenceMap": _sequence_map}
