"""Folds zero padding into the convolution or pooling that follows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Model, Node
from onnxcompress.pass_base import EXCLUDED, Context, Pass


@dataclass(frozen=True, kw_only=True)
class FoldPad(Pass):
    """Conv(Pad(x, p, 0))  ->  Conv(x, pads += p).

    Also for AveragePool that counts its padding. A padded tensor costs a copy, and in an int8 graph
    it stands between two nodes that onnxruntime would fuse. Source: ONNX Pad, Conv (opset 1-25).
    """

    name: ClassVar[str] = "fold-pad"
    exact: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        for pad in reversed(query.nodes(model, {"Pad"})):  # of two in a row the last goes first
            if self.at(pad) is None:
                edit.skip(pad, EXCLUDED)
                continue
            pads = _spatial_zero_pads(pad)
            if isinstance(pads, str):
                edit.skip(pad, pads)
                continue
            readers = query.consumers(pad.outputs[0])
            unfit = [reason for node in readers if (reason := _unfit(node, pad, pads))]
            if unfit or model.is_output(pad.outputs[0]):
                edit.skip(pad, unfit[0] if unfit else "a graph returns the padded tensor")
                continue
            for node in readers:
                own = np.array(node.ints_attr("pads") or [0] * len(pads))
                edit.set_attribute(node, "pads", (own + pads).tolist())
                if "auto_pad" in node.attrs:  # VALID, which would overrule the pads
                    edit.set_attribute(node, "auto_pad", "NOTSET")
            edit.bypass(pad)


def _spatial_zero_pads(pad: Node) -> np.ndarray | str:
    """Pads as Conv writes them, all begins then all ends, without batch and channel; or why not."""
    if pad.text_attr("mode", "constant") != "constant":
        return "pads with other values than a constant"
    if query.has_input(pad, 3):
        return "names the axes it pads"
    if "pads" in pad.attrs:  # before opset 11
        pads, value = np.array(pad.ints_attr("pads")), pad.float_attr("value", 0.0)
    else:
        amounts = query.constant(pad, 1)
        if amounts is None:
            return "the amount of padding is computed at run time"
        pads, value = amounts.values, 0.0
        if query.has_input(pad, 2):
            given = query.constant(pad, 2)
            if given is None:
                return "the padding value is computed at run time"
            value = float(given.values.reshape(-1)[0])
    if value != 0:
        return f"pads with {value:g}, convolutions pad with 0"
    begins, ends = np.split(pads, 2)
    if begins.size < 3 or begins[:2].any() or ends[:2].any():
        return "pads the batch or channel axis"
    if (pads < 0).any():
        return "negative padding crops"
    return np.concatenate([begins[2:], ends[2:]])


def _unfit(node: Node, pad: Node, pads: np.ndarray) -> str | None:
    """Why a reader cannot pad by itself; None if it can."""
    if node.op not in ("Conv", "AveragePool") or node.domain not in STANDARD:
        return f"read by {node.op}, which does not pad with zeros"
    if any(tensor is pad.outputs[0] for tensor in node.inputs[1:]):
        return f"pads the weight of {node.name!r}"
    if node.text_attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"{node.op} chooses its own padding (auto_pad)"
    if node.op == "AveragePool":
        if node.int_attr("count_include_pad", 0) != 1 or any(node.ints_attr("pads")):
            return "AveragePool does not count padding as values"
        if node.int_attr("ceil_mode", 0):
            return "AveragePool rounds its size up"
        if (pads >= np.tile(node.ints_attr("kernel_shape"), 2)).any():
            return "AveragePool takes no padding as wide as its window"
    return None
