"""Where a model's multiply-accumulates are, and why they stay there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.zoo.outcome import Left
from onnxcompress.channels.groups import find_groups
from onnxcompress.ir.model import Constant, Model, Tensor
from onnxcompress.measure.macs import macs_of
from onnxcompress.pass_base import PassReport
from onnxcompress.runtime.context import RuntimeContext


def macs_by_node(model: Model, context: RuntimeContext) -> dict[str, int]:
    """Multiply-accumulates of one sample, by the names of nodes that have any."""
    types = context.types(model)

    def shape(tensor: Tensor) -> tuple[int, ...] | None:
        if isinstance(tensor, Constant):
            return tensor.shape
        known = types.get(tensor.name)
        return None if known is None else known.shape

    costs = {node.name: macs_of(node, shape) for _, node in model.nodes()}
    return {name: macs for name, macs in costs.items() if macs}


def largest_left(
    model: Model,
    costs: Mapping[str, int],
    remaining: Mapping[str, int],
    reports: Iterable[PassReport],
    context: RuntimeContext,
) -> Left | None:
    """The node that keeps the most of what it costs, of those that keep more than they should.

    Args:
        model: before it was pruned.
        costs: of its nodes.
        remaining: likewise after it was pruned.
        reports: of the passes that did it.
        context: for the groups of the model.
    """
    nodes = {node.name: node for _, node in model.nodes()}
    kept = {
        name: macs
        for name, macs in remaining.items()
        if name in nodes and macs > 0.75 * costs.get(name, 0)
    }
    if not kept:
        return None
    name = max(kept, key=lambda each: kept[each])
    node = nodes[name]
    reasons = {skip.node: skip.reason for report in reports for skip in report.skips}
    found = find_groups(model, context)
    told = [reasons[name]] if name in reasons else []
    told += [each.reason for each in found.skipped if each.node is node]
    for group in found.groups:
        if node in group.nodes:
            why = reasons.get(group.nodes[0].name, "loses some")
            stream = ", a residual stream" if group.is_stream else ""
            told.append(f"{len(group)} units of {group.name!r}{stream}: {why}")
    if not told and not any(isinstance(each, Constant) for each in node.inputs):
        told = ["both operands are computed"]
    share = kept[name] / (sum(costs.values()) or 1)
    reason = "; ".join(dict.fromkeys(told))
    return Left(node=name, op=node.op, share=round(share, 3), reason=reason[:400])
