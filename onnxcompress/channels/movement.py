"""How operators that move, pick or join slices tie what they read and write.

Source: ONNX Transpose (opset 1-25), Concat (4-13), Split (2-18), Slice (1-13), Gather (1-13),
Pad (2-25), Expand (8-13), Tile (6-13), pooling (1-22), Resize (10-19), DepthToSpace (1-13),
the reductions (1-20), Softmax (1-13), CumSum (11-14), LayerNormalization (17).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcompress.channels.history import normalized_axes
from onnxcompress.channels.numbers import windows
from onnxcompress.channels.pointwise import tie_aligned
from onnxcompress.channels.space import Space
from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Node, Tensor


def tie_transpose(space: Space, node: Node) -> None:
    """Transpose: axis i of the result is axis perm[i] of the input."""
    x, y = node.inputs[0], node.outputs[0]
    order = node.ints_attr("perm", tuple(reversed(range(space.rank(x)))))
    for axis, source in enumerate(order):
        space.move(node, space.axis(x, source), space.axis(y, axis))


def tie_concat(space: Space, node: Node) -> None:
    """Concat: slots of one axis one after another; the other axes are common to all."""
    y = node.outputs[0]
    axis = node.int_attr("axis", 0) % space.rank(y)
    joined = space.axis(y, axis)
    start = 0
    for x in node.inputs:
        part = space.axis(x, axis)
        space.move(node, part, joined[start : start + len(part)])
        start += len(part)
        _move_others(space, node, x, y, axis)


def tie_split(space: Space, node: Node) -> None:
    """Split: the inverse of Concat."""
    x = node.inputs[0]
    axis = node.int_attr("axis", 0) % space.rank(x)
    whole = space.axis(x, axis)
    start = 0
    for y in node.outputs:
        part = space.axis(y, axis)
        space.move(node, whole[start : start + len(part)], part)
        start += len(part)
        _move_others(space, node, x, y, axis)


def tie_slice(space: Space, node: Node) -> None:
    """Slice: along an axis that is cut, the slots picked; only where it is known which."""
    x, y = node.inputs[0], node.outputs[0]
    picked = slices(space, node)
    for axis in range(space.rank(x)):
        source, target = space.axis(x, axis), space.axis(y, axis)
        if picked is not None and (window := picked.get(axis)) is not None:
            kept = source[window]
            if len(kept) == len(target) and window.step == 1:
                space.move(node, kept, target)
                continue
        elif len(source) == len(target) and picked is not None and axis not in picked:
            space.move(node, source, target)
            continue
        reason = f"{node.name!r} slices it, in steps or where a computed number says"
        space.fix(source, reason)
        space.fix(target, reason)


def slices(space: Space, node: Node) -> dict[int, slice | None] | None:
    """What a Slice takes of each axis that it names; None where that depends on other lengths.

    A bound that is computed from the length of the very axis (the half of it, say) is known, as
    is what it has to become once slots of that axis are cut.

    Returns:
        By axis; None if it is not even known which axes are sliced.
    """
    x = node.inputs[0]
    rank = space.rank(x)
    if len(node.inputs) == 1:
        return dict(windows(node, (), rank))
    bounds = [_bound(space, node, place) for place in range(1, len(node.inputs))]
    for place, bound in enumerate(bounds):
        if bound is None and query.has_input(node, place + 1):
            axes = bounds[2] if len(bounds) > 2 and place < 2 else None
            return None if axes is None else dict.fromkeys((axes % rank).tolist())
    found: dict[int, slice | None] = dict(windows(node, bounds, rank))
    computed = [each for each in list(node.inputs)[1:3] if not isinstance(each, Constant)]
    own = space.axes_of(x)[next(iter(found))] if len(found) == 1 else None
    # All bounds are rewritten if one is, so each of them has to be known.
    if all(space.is_steady(tensor, own) for tensor in computed):
        return found
    return dict.fromkeys(found)


def _bound(space: Space, node: Node, place: int) -> np.ndarray | None:
    """Starts, ends, axes or steps of a Slice; None if omitted or unknown."""
    if not query.has_input(node, place):
        return None
    tensor = node.inputs[place]
    return space.numbers(tensor) if place < 3 else space.steady_numbers(tensor)


def tie_gather(space: Space, node: Node) -> None:
    """Gather: the picked axis is replaced by those of the indices."""
    x, indices, y = node.inputs[0], node.inputs[1], node.outputs[0]
    axis = node.int_attr("axis", 0) % space.rank(x)
    depth = space.rank(indices)
    space.fix(space.axis(x, axis), f"{node.name!r} looks it up by index")
    for own in space.axes_of(indices):
        space.tie(own.slots, space.axis(y, axis + own.axis))
    for own in space.axes_of(x):
        if own.axis != axis:
            after = own.axis + (depth - 1 if own.axis > axis else 0)
            space.move(node, own.slots, space.axis(y, after))
            if not x.inputs:
                space.weigh(x, own.axis)


def tie_pad(space: Space, node: Node) -> None:
    """Pad by a constant: slots are added before and behind; other modes mix an axis."""
    x, y = node.inputs[0], node.outputs[0]
    before = pads(space, node)
    for axis in range(space.rank(x)):
        source, target = space.axis(x, axis), space.axis(y, axis)
        if len(source) == len(target):
            space.move(node, source, target)
        elif (
            before is not None
            and min(before[0][axis], before[1][axis]) >= 0
            and node.text_attr("mode", "constant") == "constant"
        ):
            start = before[0][axis]
            space.move(node, source, target[start : start + len(source)])
        else:
            space.fix(source, f"{node.name!r} pads it")
            space.fix(target, f"{node.name!r} pads it")


def pads(space: Space, node: Node) -> tuple[list[int], list[int]] | None:
    """What a Pad adds before and behind each axis; None if lengths of other axes tell."""
    rank = space.rank(node.inputs[0])
    if len(node.inputs) == 1:
        amounts = list(node.ints_attr("pads"))
    else:
        told = space.steady_numbers(node.inputs[1])
        if told is None:
            return None
        amounts = told.tolist()
    if query.has_input(node, 3):
        axes = query.constant(node, 3)
        if axes is None:
            return None
        half = len(amounts) // 2
        before, behind = [0] * rank, [0] * rank
        for place, axis in enumerate(axes.values.tolist()):
            before[axis % rank], behind[axis % rank] = amounts[place], amounts[half + place]
        return before, behind
    return amounts[:rank], amounts[rank:]


def tie_stretch(space: Space, node: Node) -> None:
    """Expand and Tile: axes that keep their length are tied."""
    tie_aligned(space, node.inputs[0], node.outputs[0])
    ours, theirs = space.axes_of(node.inputs[0]), space.axes_of(node.outputs[0])
    for own, other in zip(reversed(ours), reversed(theirs), strict=False):
        if own.length not in (1, other.length):
            space.fix(own.slots, f"{node.name!r} repeats it")
            space.fix(other.slots, f"{node.name!r} repeats it")


def tie_positions(space: Space, node: Node) -> None:
    """Pooling and Resize: samples and channels pass, positions are mixed."""
    x, y = node.inputs[0], node.outputs[0]
    for result in (each for each in node.outputs if each.name):
        for axis in (0, 1):
            source, target = space.axis(x, axis), space.axis(result, axis)
            if len(source) == len(target):
                space.tie(source, target)
            else:
                space.fix(source, f"{node.name!r} resizes it")
    for own in [*space.axes_of(x)[2:], *space.axes_of(y)[2:]]:
        space.fix(own.slots, f"{node.name!r} slides over it")
    for axis in node.ints_attr("axes"):
        space.fix(space.axis(x, axis), f"{node.name!r} resizes it")


def tie_depth_to_space(space: Space, node: Node) -> None:
    """DepthToSpace: block^2 channels become the positions of one."""
    x, y = node.inputs[0], node.outputs[0]
    block = node.int_attr("blocksize", 1) ** 2
    source = space.axis(x, 1)
    if node.text_attr("mode", "DCR") == "DCR":
        source = source.reshape(block, -1).T.reshape(-1)
    space.tie(space.axis(x, 0), space.axis(y, 0))
    space.move(node, source, np.repeat(space.axis(y, 1), block))
    for axis in [*space.axes_of(x)[2:], *space.axes_of(y)[2:]]:
        space.fix(axis.slots, f"{node.name!r} slides over it")


def tie_space_to_depth(space: Space, node: Node) -> None:
    """SpaceToDepth: the positions of one channel become block^2 channels."""
    x, y = node.inputs[0], node.outputs[0]
    block = node.int_attr("blocksize", 1) ** 2
    space.tie(space.axis(x, 0), space.axis(y, 0))
    source = space.axis(x, 1)
    depth_first = node.text_attr("mode", "DCR") == "DCR"
    source = np.tile(source, block) if depth_first else np.repeat(source, block)
    space.move(node, source, space.axis(y, 1))
    for axis in [*space.axes_of(x)[2:], *space.axes_of(y)[2:]]:
        space.fix(axis.slots, f"{node.name!r} slides over it")


def tie_reduction(space: Space, node: Node) -> None:
    """Reductions: what is reduced is fixed, the other axes pass."""
    x, y = node.inputs[0], node.outputs[0]
    reduced = _reduced(space, node, x)
    kept = node.int_attr("keepdims", 1)
    target = 0
    for own in space.axes_of(x):
        if reduced is None or own.axis in reduced:
            space.fix(own.slots, f"{node.op} {node.name!r} takes statistics over it")
            target += kept
        else:
            space.tie(own.slots, space.axis(y, target))
            target += 1
    if reduced is None:
        space.fix_tensor(y, f"{node.op} {node.name!r} takes statistics over it")


def tie_normalization(space: Space, node: Node) -> None:
    """Softmax, LayerNormalization and CumSum: fixed is what they run over."""
    x = node.inputs[0]
    for tensor in (each for each in node.outputs if each.name):
        tie_aligned(space, x, tensor)
    rank = space.rank(x)
    axis = _summed_axis(space, node) if node.op == "CumSum" else None
    known = node.op != "CumSum" or axis is not None
    over = normalized_axes(node, axis, rank, space.opset) if known else range(rank)
    for own in space.axes_of(x)[over.start : over.stop]:
        space.fix(own.slots, f"{node.op} {node.name!r} takes statistics over it")
    for tensor in list(node.inputs)[1:] if node.op != "CumSum" else ():
        if not query.is_omitted(tensor):
            tie_aligned(space, tensor, x)


def _summed_axis(space: Space, node: Node) -> int | None:
    """The axis of a CumSum, an input; None if it is computed."""
    told = space.steady_numbers(node.inputs[1])
    return None if told is None else int(told.reshape(-1)[0])


def _reduced(space: Space, node: Node, x: Tensor) -> set[int] | None:
    """The axes a reduction goes over; None if they are computed."""
    rank = space.rank(x)
    if node.op in ("ArgMax", "ArgMin"):
        return {node.int_attr("axis", 0) % rank}
    axes: Sequence[int] = node.ints_attr("axes")
    if query.has_input(node, 1):
        told = space.steady_numbers(node.inputs[1])
        if told is None:
            return None
        axes = told.reshape(-1).tolist()
    if not axes:
        return set() if node.int_attr("noop_with_empty_axes", 0) else set(range(rank))
    return {axis % rank for axis in axes}


def _move_others(space: Space, node: Node, x: Tensor, y: Tensor, axis: int) -> None:
    for own in space.axes_of(x):
        if own.axis != axis:
            space.move(node, own.slots, space.axis(y, own.axis))
