"""The value of nodes that depend on stored tensors alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from onnxcompress.allowance import Allowance, bytes_for_model
from onnxcompress.errors import ResourceError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model, Node, Tensor
from onnxcompress.runtime.part import part_of
from onnxcompress.runtime.result_sizes import most_bytes, sizes_of_results
from onnxcompress.runtime.session import Session, SessionSettings

_SHARE: Final = 8
"""Results may take one part in so many of what a model may: they are there several times, in the
session, as arrays, and from the attempt before."""


def evaluate(model: Model, nodes: Sequence[Node]) -> Mapping[str, np.ndarray]:
    """Runs `nodes`, in this order, in onnxruntime and returns every output by name.

    A few numbers in a file can ask for any amount of memory, so nothing is run before it is known
    how large its results are. Where that depends on values, those are computed first.

    Args:
        model: where they stand; its opsets and functions hold for them.
        nodes: nodes that read only stored tensors and each other.

    Raises:
        SessionError: onnxruntime cannot run them.
        ResourceError: their results take more memory than is allowed, or it cannot be told.
    """
    allowance = Allowance(bytes_for_model(model.weight_bytes) // _SHARE, ResourceError)
    found: dict[str, np.ndarray] = {}
    waiting = list(nodes)
    while waiting:
        ready = _affordable(model, waiting, found, allowance)
        part = part_of(model, ready, found)
        values = Session(io.to_bytes(part), SessionSettings(optimize=False)).run({})
        found |= values
        done = set(ready)
        waiting = [node for node in waiting if node not in done]
    return {o.name: found[o.name] for node in nodes for o in node.outputs if o.name}


def _affordable(
    model: Model, nodes: Sequence[Node], found: Mapping[str, np.ndarray], allowance: Allowance
) -> list[Node]:
    """The nodes the size of whose results is known, which is taken from the allowance."""
    sizes = sizes_of_results(model, nodes, found)
    ready: list[Node] = []
    later: set[Tensor] = set()
    for node in nodes:
        if later.isdisjoint(node.inputs):
            size = most_bytes(node, sizes, found)
            if size is not None:
                named = node.name or node.op
                allowance.take(size, f"node {named!r} ({node.op}): what it computes")
                ready.append(node)
                continue
        later.update(node.outputs)
    if not ready:
        raise ResourceError(
            f"node {nodes[0].name!r} ({nodes[0].op}): how much memory its result takes cannot be "
            f"told before it is computed"
        )
    return ready
