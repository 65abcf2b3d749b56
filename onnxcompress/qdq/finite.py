"""Placement around tensors that have no range: one infinity inside must not stop all the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from onnxcompress.errors import DataError
from onnxcompress.ir.model import Model, Node
from onnxcompress.qdq.placement import Placement, Refuse, data_inputs, place

NOT_FINITE: Final = "holds NaN or infinite values on the calibration data"


def place_finite(
    model: Model,
    unfit: Callable[[Node], str | None],
    refuse: Refuse,
    observed: Callable[[Sequence[str]], Collection[str]],
) -> Placement:
    """Places integers as `placement.place`, but not next to a tensor that is not finite everywhere.

    Masked attention, a Log or a division may fill a tensor with infinities that a later Softmax or
    Clip takes away: what reads such a tensor, or would write it as integers, stays float.

    Args:
        model: the model.
        unfit: why a node stays float by the caller's options; None if it need not.
        refuse: told about every candidate that stays float.
        observed: of tensors by name, those that have a range.

    Raises:
        DataError: a tensor without a range is needed all the same.
    """
    read: set[str] = set()
    written: set[str] = set()

    def reason_of(node: Node) -> str | None:
        names = [tensor.name for tensor in data_inputs(node) if tensor.name in read]
        names += [tensor.name for tensor in node.outputs if tensor.name in written]
        return f"{names[0]!r} {NOT_FINITE}" if names else unfit(node)

    while True:
        refusals: list[tuple[Node, str]] = []

        def allowed(node: Node, refusals: list[tuple[Node, str]] = refusals) -> bool:
            reason = reason_of(node)
            if reason is not None:
                refusals.append((node, reason))
            return reason is None

        def noted(node: Node, reason: str, refusals: list[tuple[Node, str]] = refusals) -> None:
            refusals.append((node, reason))

        placement = place(model, allowed, noted)
        names = [tensor.name for tensor in placement.tensors]
        missing = set(names).difference(observed(names)) if names else set()
        if not missing:
            for refusal in refusals:
                refuse(*refusal)
            return placement
        results = {tensor for tensor in placement.results if tensor.name in missing}
        before = len(read) + len(written)
        read |= missing
        for tensor in results:
            written.add(tensor.name)
            if tensor in placement.vanishing:  # the activation after a convolution
                written.add(placement.vanishing[tensor].inputs[0].name)
        if len(read) + len(written) == before:
            raise DataError(f"tensor {min(missing)!r} {NOT_FINITE}")
