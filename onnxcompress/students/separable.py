"""Convolutions as a depthwise one and one of kernel 1.

Source: ONNX Conv (opset 1-22); Howard et al., "MobileNets", 2017, section 3.1. The kernels start as
the best product of one kernel for each channel and a matrix, by singular value decomposition.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node
from onnxcompress.pass_base import is_weight

_PLACEMENT = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")


def separate_convolutions(part: Model, edit: Editor) -> str | None:
    """Rewrites the convolutions of a part; or says why there is none to rewrite."""
    nodes = [node for node in query.nodes(part, {"Conv"}) if _why_not(node) is None]
    for node in nodes:
        _separate(edit, node)
    if nodes:
        return None
    return "the part has no Conv of several channels, ungrouped, with a kernel wider than 1"


def _why_not(node: Node) -> str | None:
    weight = query.constant(node, 1)
    if weight is None or not is_weight(weight):
        return "its weight is not stored as float32"
    outputs, channels, *kernel = weight.shape
    size = math.prod(kernel)
    if node.int_attr("group", 1) != 1 or size == 1:
        return "it is grouped already, or its kernel is 1"
    if channels * (size + outputs) >= weight.size:
        return "two kernels would be no smaller"
    return None


def _separate(edit: Editor, node: Node) -> None:
    weight = query.constant(node, 1)
    assert weight is not None
    values = weight.values
    outputs, channels, *kernel = values.shape
    by_channel = values.reshape(outputs, channels, -1).transpose(1, 0, 2).astype(np.float64)
    left, strengths, right = np.linalg.svd(by_channel, full_matrices=False)
    scale = np.sqrt(strengths[:, 0])
    depthwise = (right[:, 0] * scale[:, None]).reshape(channels, 1, *kernel)
    pointwise = (left[:, :, 0] * scale[:, None]).T.reshape(outputs, channels, *[1] * len(kernel))
    first = edit.constant(f"{weight.name}_depthwise", depthwise.astype(values.dtype))
    thin = edit.add("Conv", [node.inputs[0], first], near=node, base=f"{node.name}_depthwise")
    for name in _PLACEMENT:
        if name in node.attrs:
            attribute = node.attrs.pop(name)
            assert isinstance(attribute, onnx.AttributeProto)
            value = onnx.helper.get_attribute_value(attribute)
            edit.set_attribute(thin.inputs[0], name, value)
    edit.set_attribute(thin.inputs[0], "group", channels)
    edit.set_input(node, 0, thin, "a depthwise kernel and one of size 1")
    edit.set_values(node, 1, np.ascontiguousarray(pointwise, values.dtype))
