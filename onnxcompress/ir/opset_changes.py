"""Operators that onnx's version converter raises wrongly, or not at all, and what they become.

Source: the history of ONNX Upsample (opset 7-9), Resize (10-11), Hardmax (1-13), GroupNormalization
(18-21), Dropout (7-12), MeanVarianceNormalization (1-9), Scan (8-9) and Split (13-18, which the
converter of onnx 1.16 forgets); where a text leaves it open, what onnxruntime computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from onnxcompress.errors import ModelError
from onnxcompress.ir import query
from onnxcompress.ir.edit import Attribute, Editor
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor, Variable

HIDDEN = "onnxcompress.hidden"
"""The domain of these nodes while the converter is at work: it lets others' operators pass."""

_FLOAT, _LONG = np.dtype(np.float32), np.dtype(np.int64)
_LAST = -1


def hide(model: Model, version: int) -> list[Node]:
    """Takes the nodes that are raised here out of the converter's sight.

    Args:
        model: as it is.
        version: the operator set that it is raised to.

    Returns:
        The nodes, whose outputs' types the converter can no longer infer.
    """
    before = model.opset
    hidden = []
    for _, node in model.nodes():
        change = CHANGES.get(node.op) if node.domain in STANDARD else None
        if change is None or not before < change.since <= version:
            continue
        if change.concerns(node, model):
            node.domain = HIDDEN
            hidden.append(node)
    if hidden:
        model.import_domain(HIDDEN, 1)
    return hidden


def rewrite(model: Model, before: int) -> None:
    """Gives hidden nodes the form that means what they meant.

    Args:
        model: as it was raised.
        before: the operator set that it was raised from.

    Raises:
        ModelError: there is no such form; names the node.
    """
    edit = Editor(model)
    for node in [node for _, node in model.nodes() if node.domain == HIDDEN]:
        node.domain = ""
        CHANGES[node.op].rewrite(edit, node, before)
    edit.finish()


def _always(node: Node, model: Model) -> bool:
    del node, model
    return True


@dataclass(frozen=True)
class Change:
    """A change of meaning.

    Attributes:
        since: the operator set that brought it.
        rewrite: puts a node of an older one into the new form.
        concerns: whether it makes a difference to a node.
    """

    since: int
    rewrite: Callable[[Editor, Node, int], None]
    concerns: Callable[[Node, Model], bool] = _always


def _upsample(edit: Editor, node: Node, before: int) -> None:
    """Upsample took scales as an attribute before opset 9, and none below 1."""
    if before < 9:
        scales = np.array(node.attrs.pop("scales").floats, np.float32)
        edit.set_input(node, 1, edit.constant(f"{node.name}_scales", scales))
    node.op = "Resize"
    _set_scales(edit, node, node.inputs[1], "floor")


def _resize(edit: Editor, node: Node, before: int) -> None:
    """Resize of opset 10: the nearest was the one before, or behind where an axis shrinks."""
    del before
    scales = node.inputs[1]
    if node.text_attr("mode", "nearest") != "nearest":
        _set_scales(edit, node, scales, "floor")
        return
    shrinking, growing = _both_ways(edit, node, scales)
    if shrinking is None or growing is None:
        _set_scales(edit, node, scales, "floor" if shrinking is None else "ceil")
        return
    x = node.inputs[0]
    smaller = edit.add(
        "Resize",
        [x, _no_region(edit), shrinking],
        near=node,
        base=f"{node.outputs[0].name}_smaller",
        attrs=_resizing("nearest", "ceil"),
        dtype=x.dtype,
    )
    edit.set_input(node, 0, smaller)
    _set_scales(edit, node, growing, "floor")


def _both_ways(edit: Editor, node: Node, scales: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Scales of the axes that shrink and of those that grow, 1 elsewhere; None where all are."""
    if isinstance(scales, Constant):
        found = (np.minimum(scales.values, 1), np.maximum(scales.values, 1))
        if (found[0] == 1).all():
            return None, scales
        if (found[1] == 1).all():
            return scales, None
        smaller, larger = (edit.constant(f"{node.name}_scales", each) for each in found)
        return smaller, larger
    one = edit.shared("one", np.array([1], np.float32))
    smaller, larger = (
        edit.add(op, [scales, one], near=node, base=f"{node.name}_scales", dtype=_FLOAT)
        for op in ("Min", "Max")
    )
    return smaller, larger


def _set_scales(edit: Editor, node: Node, scales: Tensor, nearest: str) -> None:
    for name, value in _resizing(node.text_attr("mode", "nearest"), nearest).items():
        edit.set_attribute(node, name, value)
    edit.set_input(node, 1, _no_region(edit) or Variable(""))
    edit.set_input(node, 2, scales)


def _resizing(mode: str, nearest: str) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    return {**found, "nearest_mode": nearest} if mode == "nearest" else found


def _no_region(edit: Editor) -> Constant | None:
    """The region of interest, which may be omitted from opset 13 on."""
    return edit.shared("roi", np.empty(0, np.float32)) if edit.model.opset < 13 else None


def _hardmax(edit: Editor, node: Node, before: int) -> None:
    """Hardmax made a matrix of what it read; `axis`, by default 1, was the first of its columns."""
    del before
    x, y = node.inputs[0], node.outputs[0]
    axis = node.int_attr("axis", 1)
    rank = query.rank(x)
    if rank is not None and axis in (_LAST, rank - 1):
        edit.set_attribute(node, "axis", _LAST)
        return
    matrix = edit.add(
        "Flatten", [x], near=node, base=f"{x.name}_flat", attrs={"axis": axis}, dtype=x.dtype
    )
    shape = edit.add("Shape", [x], near=node, base=f"{x.name}_shape", dtype=_LONG)
    flat = edit.add(
        "Hardmax", [matrix], near=node, base=f"{y.name}_flat", attrs={"axis": _LAST}, dtype=y.dtype
    )
    whole = edit.add("Reshape", [flat, shape], near=node, base=y.name, dtype=y.dtype, shape=y.shape)
    edit.redirect(y, whole)
    edit.remove(node)


def _group_normalization(edit: Editor, node: Node, before: int) -> None:
    """GroupNormalization had a scale and a bias for each group, and has them for each channel."""
    del before
    x = node.inputs[0]
    groups = node.int_attr("num_groups", 1)
    channels = x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
    for place in (1, 2):
        numbers = node.inputs[place]
        if isinstance(numbers, Constant) and isinstance(channels, int):
            edit.set_values(node, place, np.repeat(numbers.values, channels // groups))
        else:
            edit.set_input(node, place, _repeated(edit, node, numbers, groups))


def _repeated(edit: Editor, node: Node, numbers: Tensor, groups: int) -> Tensor:
    """Each number as many times as a group has channels, which is counted as the model runs."""
    base = numbers.name or node.name

    def add(op: str, inputs: list[Tensor], dtype: np.dtype | None, **attrs: Attribute) -> Tensor:
        return edit.add(op, inputs, near=node, base=f"{base}_{op}", attrs=attrs, dtype=dtype)

    def stored(*values: int) -> Constant:
        return edit.shared(f"{base}_numbers", np.array(values, _LONG))

    channels = add("Shape", [node.inputs[0]], _LONG, start=1, end=2)
    times = add("Div", [channels, stored(groups)], _LONG)
    shape = add("Concat", [stored(groups), times], _LONG, axis=0)
    column = add("Unsqueeze", [numbers, stored(1)], numbers.dtype)
    return add(
        "Reshape", [add("Expand", [column, shape], numbers.dtype), stored(-1)], numbers.dtype
    )


def _dropout(edit: Editor, node: Node, before: int) -> None:
    """Dropout's mask was of zeros where nothing is dropped, and is of ones."""
    x, mask = node.inputs[0], node.outputs[1]
    kind = np.dtype(np.bool_) if before >= 10 else x.dtype or _FLOAT
    shape = edit.add("Shape", [x], near=node, base=f"{x.name}_shape", dtype=_LONG)
    zeros = edit.add(
        "ConstantOfShape",
        [shape],
        near=node,
        base=mask.name,
        attrs={"value": onnx.numpy_helper.from_array(np.zeros(1, kind))},
        dtype=kind,
    )
    edit.redirect(mask, zeros)
    edit.bypass(node)


def _has_mask(node: Node, model: Model) -> bool:
    return any(mask.outputs or model.is_output(mask) for mask in list(node.outputs)[1:])


def _mean_variance(edit: Editor, node: Node, before: int) -> None:
    """MeanVarianceNormalization had flags, and has axes."""
    del before
    if not node.int_attr("normalize_variance", 1):
        raise ModelError(
            f"node {node.name!r} ({node.op}) takes the mean away alone, which later ones cannot"
        )
    across = node.int_attr("across_channels", 0)
    node.attrs.clear()
    edit.set_attribute(node, "axes", [0, 1, 2, 3] if across else [0, 2, 3])


def _scan(edit: Editor, node: Node, before: int) -> None:
    del edit, before
    raise ModelError(f"node {node.name!r} (Scan) has an axis for samples, which later ones lack")


def _split(edit: Editor, node: Node, before: int) -> None:
    """Split without lengths told the number of parts by its outputs alone."""
    del before
    edit.set_attribute(node, "num_outputs", len(node.outputs))


def _has_no_lengths(node: Node, model: Model) -> bool:
    del model
    return "split" not in node.attrs and (len(node.inputs) < 2 or not node.inputs[1].name)


CHANGES: Mapping[str, Change] = {
    "Dropout": Change(12, _dropout, _has_mask),
    "GroupNormalization": Change(21, _group_normalization),
    "Hardmax": Change(13, _hardmax),
    "MeanVarianceNormalization": Change(9, _mean_variance),
    "Resize": Change(11, _resize),
    "Scan": Change(9, _scan),
    "Split": Change(18, _split, _has_no_lengths),
    "Upsample": Change(11, _upsample),
}
"""By operator; the converter does the others, and a test holds it to that."""
