"""The layers of generated networks: each reads the newest map and pushes another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .generated import Builder, Choices, grows, room_for

Layer = Callable[[Builder, Choices], None]

ACTIVATIONS = ("Relu", "Sigmoid", "HardSwish", "LeakyRelu", "Softplus", "Abs", "Neg", "Cos")


def conv(build: Builder, choose: Choices) -> None:
    x, outer = build.now, choose.pick((6, 4, 8, 12))
    size, bias = choose.pick((1, 3)), choose.yes()
    build.push(build.conv(x, outer, size=size, bias=bias), outer, x.height, x.width)


def strided_conv(build: Builder, choose: Choices) -> None:
    x, outer = build.now, choose.pick((6, 4, 8))
    weight, bias = build.weight(outer, x.channels, 2, 2, fan=4 * x.channels), build.vector(outer)
    if x.height < 4 or x.width < 4:
        return
    y = build.node("Conv", x.name, weight, bias, strides=[2, 2])
    build.push(y, outer, x.height // 2, x.width // 2)


def depthwise(build: Builder, choose: Choices) -> None:
    x, times = build.now, choose.pick((1, 2))
    outer = times * x.channels
    if room_for(outer):
        y = build.conv(x, outer, size=3, groups=x.channels, bias=choose.yes())
        build.push(y, outer, x.height, x.width)


def grouped(build: Builder, choose: Choices) -> None:
    x, groups, each = build.now, choose.pick((2, 3)), choose.pick((2, 3, 4))
    if x.channels % groups == 0:
        y = build.conv(x, groups * each, groups=groups, bias=choose.yes())
        build.push(y, groups * each, x.height, x.width)


def twice(build: Builder, choose: Choices) -> None:
    """One weight in two convolutions, with one bias or another."""
    x = build.now
    weight = build.weight(x.channels, x.channels, 1, 1, fan=x.channels)
    bias = build.vector(x.channels)
    other = bias if choose.yes() else build.vector(x.channels)
    inner = build.node("Relu", build.node("Conv", x.name, weight, bias))
    build.push(build.node("Conv", inner, weight, other), x.channels, x.height, x.width)


def shared_bias(build: Builder, choose: Choices) -> None:
    """Two convolutions with weights of their own and one bias, in a row or side by side."""
    x, bias = build.now, build.vector(6)
    first = build.node("Conv", x.name, build.weight(6, x.channels, 1, 1, fan=x.channels), bias)
    if choose.yes():
        second = build.node("Conv", first, build.weight(6, 6, 1, 1, fan=6), bias)
    else:
        weight = build.weight(6, x.channels, 1, 1, fan=x.channels)
        second = build.node("Add", first, build.node("Conv", x.name, weight, bias))
    build.push(second, 6, x.height, x.width)


def conv_transpose(build: Builder, choose: Choices) -> None:
    x, outer, groups = build.now, choose.pick((6, 4)), choose.pick((1, 2))
    if grows(x.height) and grows(x.width) and x.channels % groups == 0:
        weight = build.weight(x.channels, outer // groups, 2, 2, fan=x.channels // groups)
        bias = [build.vector(outer)] if choose.yes() else []
        y = build.node("ConvTranspose", x.name, weight, *bias, strides=[2, 2], group=groups)
        build.push(y, outer, 2 * x.height, 2 * x.width)


def batch_norm(build: Builder, _: Choices) -> None:
    x = build.now
    vectors = [build.scale(x.channels), *(build.vector(x.channels) for _ in range(2))]
    y = build.node("BatchNormalization", x.name, *vectors, build.scale(x.channels))
    build.push(y, x.channels, x.height, x.width)


def instance_norm(build: Builder, _: Choices) -> None:
    x = build.now
    if x.height * x.width > 1:
        scale, bias = build.scale(x.channels), build.vector(x.channels)
        y = build.node("InstanceNormalization", x.name, scale, bias)
        build.push(y, x.channels, x.height, x.width)


def group_norm(build: Builder, choose: Choices) -> None:
    x, groups = build.now, choose.pick((2, 1))
    if x.channels % groups == 0 and x.channels * x.height > groups:
        scale, bias = build.scale(x.channels), build.vector(x.channels)
        y = build.node("GroupNormalization", x.name, scale, bias, num_groups=groups)
        build.push(y, x.channels, x.height, x.width)


def activation(build: Builder, choose: Choices) -> None:
    x = build.now
    y = build.node(choose.pick(ACTIVATIONS), x.name)
    build.push(y, x.channels, x.height, x.width)


def clip(build: Builder, choose: Choices) -> None:
    x, low = build.now, choose.pick((0.0, 0.2, -0.3))
    bounds = build.stored(np.float32(low)), build.stored(np.float32(6))
    build.push(build.node("Clip", x.name, *bounds), x.channels, x.height, x.width)


def prelu(build: Builder, choose: Choices) -> None:
    x = build.now
    slope = build.vector(*choose.pick(((x.channels, 1, 1), (1,), (1, x.channels, 1, 1))))
    build.push(build.node("PRelu", x.name, slope), x.channels, x.height, x.width)


def with_constant(build: Builder, choose: Choices) -> None:
    """A stored tensor on either side, with or without a channel axis."""
    x = build.now
    shapes = ((x.channels, 1, 1), (1, x.channels, 1, 1), (1,), (), (x.height, x.width), (1, 1, 1))
    op, shape = choose.pick(("Add", "Mul", "Sub", "Max")), choose.pick(shapes)
    sides = [x.name, build.vector(*shape)]
    y = build.node(op, *(reversed(sides) if choose.yes() else sides))
    build.push(y, x.channels, x.height, x.width)


def combine(build: Builder, choose: Choices) -> None:
    """Adds or multiplies an earlier map; a 1x1 convolution fits its channels if need be."""
    x = build.now
    others = [each for each in build.maps if each.aligned(x) or each.height * each.width == 1]
    other = choose.pick(others[::-1])
    name = other.name
    if other.channels not in (1, x.channels):
        name = build.conv(other, choose.pick((x.channels, 1)))
    op = choose.pick(("Add", "Mul", "Sub"))
    build.push(build.node(op, x.name, name), x.channels, x.height, x.width)


def squeeze_excite(build: Builder, choose: Choices) -> None:
    x = build.now
    pooled = build.node("GlobalAveragePool", x.name)
    squeezed = build.conv(type(x)(pooled, x.channels, 1, 1), 4)
    inner = build.node("Relu", squeezed)
    gate = build.node("Sigmoid", build.conv(type(x)(inner, 4, 1, 1), x.channels))
    sides = (x.name, gate) if choose.yes() else (gate, x.name)
    build.push(build.node("Mul", *sides), x.channels, x.height, x.width)


def concat(build: Builder, choose: Choices) -> None:
    """With an earlier map, or with itself, over channels or rows."""
    x, axis = build.now, choose.pick((1, 2))
    fits = [
        each
        for each in build.maps[::-1]
        if (each.aligned(x) if axis == 1 else each.like(x))
        and (room_for(each.channels + x.channels) if axis == 1 else grows(x.height))
    ]
    if fits:
        other = choose.pick(fits)
        y = build.node("Concat", x.name, other.name, axis=axis)
        if axis == 1:
            build.push(y, x.channels + other.channels, x.height, x.width)
        else:
            build.push(y, x.channels, 2 * x.height, x.width)


def split(build: Builder, choose: Choices) -> None:
    """Two parts: one gates the other, or they are swapped, or one is left for later layers."""
    x, even = build.now, choose.yes()
    first = x.channels // 2 if even else max(1, x.channels // 3)
    second = x.channels - first
    if x.channels < 2:
        return
    left, right = build.split("Split", 2, x.name, build.shape(first, second), axis=1)
    if first == second and choose.yes():
        y = build.node("Mul", left, build.node("Sigmoid", right))
        build.push(y, first, x.height, x.width)
    elif choose.yes():
        build.push(build.node("Concat", right, left, axis=1), x.channels, x.height, x.width)
    else:
        build.push(right, second, x.height, x.width)
        build.push(left, first, x.height, x.width)


def slice_channels(build: Builder, choose: Choices) -> None:
    x = build.now
    if x.channels < 4:
        return
    start, end, step = choose.pick(((1, -1, 1), (0, 1 << 40, 2), (-1, -(1 << 40), -1)))
    ends = (build.shape(each) for each in (start, end, 1, step))
    channels = len(range(x.channels)[slice(start, end if step > 0 else None, step)])
    build.push(build.node("Slice", x.name, *ends), channels, x.height, x.width)


def slice_rows(build: Builder, _: Choices) -> None:
    x = build.now
    if x.height > 2:
        ends = (build.shape(each) for each in (1, x.height, 2))
        y = build.node("Slice", x.name, *ends)
        build.push(y, x.channels, x.height - 1, x.width)


def gather(build: Builder, choose: Choices) -> None:
    """Channels in another order, some left out, or one twice."""
    x = build.now
    order = build.rng.permutation(x.channels)
    order = choose.pick((order, order[: max(1, len(order) - 2)], np.append(order, order[0])))
    y = build.node("Gather", x.name, build.shape(*order), axis=1)
    build.push(y, len(order), x.height, x.width)


def pad(build: Builder, choose: Choices) -> None:
    """Zeros or another constant around channels, or pixels, or both."""
    x = build.now
    channels, pixels = choose.pick(((1, 0), (0, 1), (2, 1)))
    before = choose.pick((0, channels))
    pads = build.shape(0, before, pixels, 0, 0, channels, 0, pixels)
    fill = build.stored(np.float32(choose.pick((0, 0.5))))
    if room_for(x.channels + before + channels) and grows(x.height):
        y = build.node("Pad", x.name, pads, fill)
        build.push(y, x.channels + before + channels, x.height + pixels, x.width + pixels)


def reflect(build: Builder, choose: Choices) -> None:
    x, mode = build.now, choose.pick(("reflect", "edge"))
    if x.height > 1 and grows(x.height):
        y = build.node("Pad", x.name, build.shape(0, 0, 1, 0, 0, 0, 1, 0), mode=mode)
        build.push(y, x.channels, x.height + 2, x.width)


def pool(build: Builder, choose: Choices) -> None:
    x = build.now
    op, padded = choose.pick(("MaxPool", "AveragePool", "LpPool")), choose.yes()
    # onnxruntime moves a Pad into the pool behind it, and then refuses pads as wide as the window.
    padded = padded and op != "LpPool" and build.nodes[-1].op_type != "Pad"
    if x.height < 2 or x.width < 2:
        return
    attributes: dict[str, object] = {"kernel_shape": [2, 2], "strides": [1, 1]}
    if padded:
        attributes |= {"pads": [1, 1, 0, 0]}
        attributes |= {"count_include_pad": 1} if op == "AveragePool" else {}
    y = build.node(op, x.name, **attributes)
    less = 0 if padded else 1
    build.push(y, x.channels, x.height - less, x.width - less)


def global_pool(build: Builder, choose: Choices) -> None:
    x, op = (
        build.now,
        choose.pick(("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")),
    )
    axes = [build.shape(2, 3)] if op.startswith("Reduce") else []
    build.push(build.node(op, x.name, *axes), x.channels, 1, 1)


def over_channels(build: Builder, choose: Choices) -> None:
    """A statistic of all channels: none of them can go."""
    x, op = build.now, choose.pick(("Softmax", "ReduceMean", "LogSoftmax"))
    if op == "ReduceMean":
        y = build.node("Sub", x.name, build.node(op, x.name, build.shape(1)))
    else:
        y = build.node(op, x.name, axis=1)
    build.push(y, x.channels, x.height, x.width)


def resize(build: Builder, choose: Choices) -> None:
    x, mode = build.now, choose.pick(("nearest", "linear"))
    if grows(x.height) and grows(x.width):
        scales = build.stored(np.array([1, 1, 2, 2], np.float32))
        y = build.node("Resize", x.name, "", scales, mode=mode)
        build.push(y, x.channels, 2 * x.height, 2 * x.width)


def channel_shuffle(build: Builder, choose: Choices) -> None:
    x, groups = build.now, choose.pick((2, 3))
    if x.channels % groups == 0:
        parts = build.shape(0, groups, x.channels // groups, x.height, x.width)
        inner = build.node("Transpose", build.node("Reshape", x.name, parts), perm=[0, 2, 1, 3, 4])
        y = build.node("Reshape", inner, build.shape(0, x.channels, x.height, x.width))
        build.push(y, x.channels, x.height, x.width)


def pixel_shuffle(build: Builder, choose: Choices) -> None:
    x, mode = build.now, choose.pick(("CRD", "DCR"))
    if grows(x.height) and grows(x.width):
        if x.channels % 4:
            build.push(build.conv(x, 8), 8, x.height, x.width)
        x = build.now
        y = build.node("DepthToSpace", x.name, blocksize=2, mode=mode)
        build.push(y, x.channels // 4, 2 * x.height, 2 * x.width)


def channels_last(build: Builder, choose: Choices) -> None:
    """Products, norms and vectors over channels moved to the end."""
    x = build.now
    inner = build.node("Transpose", x.name, perm=[0, 2, 3, 1])
    channels = x.channels
    if choose.yes():
        scale, bias = build.scale(channels), build.vector(channels)
        inner = build.node("LayerNormalization", inner, scale, bias)
    if choose.yes():
        wide = build.node("MatMul", inner, build.weight(channels, 8, fan=channels))
        inner = build.node("Relu", build.node("Add", wide, build.vector(8)))
        inner = build.node("MatMul", inner, build.weight(8, channels, fan=8))
    y = build.node("Transpose", inner, perm=[0, 3, 1, 2])
    build.push(y, x.channels, x.height, x.width)


def attention(build: Builder, choose: Choices) -> None:
    """Two heads over the pixels, added to what they read."""
    x, size = build.now, choose.pick((3, 4))
    pixels, heads, fused = x.height * x.width, choose.pick((2, 3)), choose.yes()
    flat = build.node("Reshape", x.name, build.shape(0, x.channels, pixels))
    rows = build.node("Transpose", flat, perm=[0, 2, 1])
    width = heads * size
    if fused:
        merged = build.node("MatMul", rows, build.weight(x.channels, 3 * width, fan=x.channels))
        parts = build.split("Split", 3, merged, build.shape(width, width, width), axis=2)
    else:
        parts = [
            build.node(
                "Add",
                build.node("MatMul", rows, build.weight(x.channels, width, fan=x.channels)),
                build.vector(width),
            )
            for _ in range(3)
        ]
    by_head = [build.node("Reshape", part, build.shape(0, -1, heads, size)) for part in parts]
    orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    query, key, value = (
        build.node("Transpose", part, perm=order)
        for part, order in zip(by_head, orders, strict=True)
    )
    weights = build.node("Softmax", build.node("MatMul", query, key), axis=-1)
    mixed = build.node("Transpose", build.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    joined = build.node("Reshape", mixed, build.shape(0, -1, width))
    result = build.node("MatMul", joined, build.weight(width, x.channels, fan=width))
    added = build.node("Add", result, rows)
    back = build.node("Transpose", added, perm=[0, 2, 1])
    y = build.node("Reshape", back, build.shape(0, x.channels, x.height, x.width))
    build.push(y, x.channels, x.height, x.width)


def length(build: Builder, tensor: str, axis: int) -> str:
    """One length of a tensor, int64 [1], as the model runs."""
    return build.node("Gather", build.node("Shape", tensor), build.shape(axis), axis=0)


def computed_halves(build: Builder, choose: Choices) -> None:
    """What chunk() leaves of a trace: bounds that are computed from the number of channels."""
    x = build.now
    if x.channels < 4:
        return
    one, two = build.shape(1), build.shape(2)
    more = build.node("Add", length(build, x.name, 1), one)
    half = build.node("Div", more, two)
    end = build.node("Mul", half, two)
    left = build.node("Slice", x.name, build.shape(0), half, one)
    right = build.node("Slice", x.name, half, end, one)
    first = (x.channels + 1) // 2
    if choose.yes():
        build.push(build.node("Concat", right, left, axis=1), x.channels, x.height, x.width)
    elif 2 * first == x.channels and choose.yes():
        y = build.node("Mul", left, build.node("Sigmoid", right))
        build.push(y, first, x.height, x.width)
    else:
        build.push(right, x.channels - first, x.height, x.width)
        build.push(left, first, x.height, x.width)


def computed_shuffle(build: Builder, choose: Choices) -> None:
    """A channel shuffle, or pairs of channels reduced, whose shapes are computed."""
    x, groups = build.now, choose.pick((2, 3))
    if x.channels % groups:
        return
    batch, channels, height, width = (length(build, x.name, axis) for axis in range(4))
    each = build.node("Div", channels, build.shape(groups))
    apart = build.node("Concat", batch, build.shape(groups), each, height, width, axis=0)
    inner = build.node("Reshape", x.name, apart)
    if choose.yes():
        y = build.node("ReduceMax", inner, build.shape(1), keepdims=0)
        build.push(y, x.channels // groups, x.height, x.width)
    else:
        inner = build.node("Transpose", inner, perm=[0, 2, 1, 3, 4])
        together = build.node("Concat", batch, channels, height, width, axis=0)
        y = build.node("Reshape", inner, together)
        build.push(y, x.channels, x.height, x.width)


def per_channel_count(build: Builder, choose: Choices) -> None:
    """Divided by a number of channels or pixels that is measured."""
    x = build.now
    count = build.node("Cast", length(build, x.name, choose.pick((1, 2))), to=1)
    build.push(build.node("Div", x.name, count), x.channels, x.height, x.width)


def group_norm_taken_apart(build: Builder, choose: Choices) -> None:
    """As exporters write it, with the shape to come back to measured."""
    x, groups = build.now, choose.pick((2, 3, 1))
    if x.channels % groups:
        return
    flat = build.node("Reshape", x.name, build.shape(0, groups, -1))
    ones, zeros = (build.stored(np.full(groups, each, np.float32)) for each in (1, 0))
    normal = build.node("InstanceNormalization", flat, ones, zeros)
    back = build.node("Reshape", normal, build.node("Shape", x.name))
    scaled = build.node("Mul", back, build.scale(x.channels, 1, 1))
    y = build.node("Add", scaled, build.vector(x.channels, 1, 1))
    build.push(y, x.channels, x.height, x.width)


def recurrent(build: Builder, choose: Choices) -> None:
    """An LSTM or GRU along the rows, each row's pixels averaged."""
    x, op = build.now, choose.pick(("LSTM", "GRU"))
    gates, units = {"LSTM": 4, "GRU": 3}[op], 5
    directions = choose.pick((1, 2))
    rows = build.node("ReduceMean", x.name, build.shape(3), keepdims=0)
    steps = build.node("Transpose", rows, perm=[2, 0, 1])
    y = build.node(
        op,
        steps,
        build.weight(directions, gates * units, x.channels, fan=2 * x.channels),
        build.weight(directions, gates * units, units, fan=2 * units),
        build.vector(directions, 2 * gates * units),
        hidden_size=units,
        direction="bidirectional" if directions == 2 else "forward",
        **({"linear_before_reset": 1} if op == "GRU" else {}),
    )
    moved = build.node("Transpose", y, perm=[2, 1, 3, 0])
    joined = build.node("Reshape", moved, build.shape(0, directions * units, x.height, 1))
    build.push(joined, directions * units, x.height, 1)


LAYERS: dict[str, Layer] = {
    each.__name__: each
    for each in (
        conv,
        strided_conv,
        depthwise,
        grouped,
        twice,
        shared_bias,
        conv_transpose,
        batch_norm,
        instance_norm,
        group_norm,
        activation,
        clip,
        prelu,
        with_constant,
        combine,
        squeeze_excite,
        concat,
        split,
        slice_channels,
        slice_rows,
        gather,
        pad,
        reflect,
        pool,
        global_pool,
        over_channels,
        resize,
        channel_shuffle,
        pixel_shuffle,
        channels_last,
        attention,
        computed_halves,
        computed_shuffle,
        per_channel_count,
        group_norm_taken_apart,
        recurrent,
    )
}


def flatten_head(build: Builder, choose: Choices) -> str:
    """Every pixel of every channel into one product."""
    x = build.now
    size = x.channels * x.height * x.width
    flat = build.node("Flatten", x.name)
    if choose.yes():
        return build.node("Gemm", flat, build.weight(5, size, fan=size), build.vector(5), transB=1)
    hidden = build.node("Gemm", flat, build.weight(size, 8, fan=size), build.vector(8))
    return build.node("MatMul", build.node("Relu", hidden), build.weight(8, 5, fan=8))


def shared_head(build: Builder, choose: Choices) -> str:
    """Means over pixels, then one matrix that is applied twice."""
    x = build.now
    if choose.yes():
        means = build.node("ReduceMean", x.name, build.shape(2, 3), keepdims=0)
    else:
        means = build.node("Reshape", build.node("GlobalAveragePool", x.name), build.shape(0, -1))
    hidden = build.node("MatMul", means, build.weight(x.channels, 6, fan=x.channels))
    shared = build.weight(6, 6, fan=6)
    for _ in range(2):
        hidden = build.node("Tanh", build.node("MatMul", hidden, shared))
    return build.node(
        "Add", build.node("MatMul", hidden, build.weight(6, 5, fan=6)), build.vector(5)
    )


def conv_head(build: Builder, _: Choices) -> str:
    """A convolution to the output."""
    return build.conv(build.now, 4)


def no_head(build: Builder, _: Choices) -> str:
    """The last map is the output, so its channels stay."""
    return build.node("Identity", build.now.name)


HEADS: tuple[Callable[[Builder, Choices], str], ...] = (
    conv_head,
    flatten_head,
    shared_head,
    no_head,
)
