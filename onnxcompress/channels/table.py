"""What each operator does to slots, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnxcompress.channels import movement, pointwise, products
from onnxcompress.channels.space import Space
from onnxcompress.ir.model import Node

Tie = Callable[[Space, Node], None]

_SAME_EVERYWHERE = frozenset(
    {
        "Abs",
        "And",
        "BitShift",
        "Cast",
        "CastLike",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "Div",
        "Dropout",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "Xor",
    }
)

_POOLING = frozenset(
    {
        "AveragePool",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "LpPool",
        "MaxPool",
        "Resize",
        "Upsample",
    }
)

_REDUCTIONS = frozenset(
    {
        "ArgMax",
        "ArgMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    }
)

_NORMALIZATIONS = frozenset(
    {
        "CumSum",
        "Hardmax",
        "LayerNormalization",
        "LogSoftmax",
        "LpNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
        "Softmax",
    }
)

TIES: Mapping[str, Tie] = {
    **dict.fromkeys(_SAME_EVERYWHERE, pointwise.tie_broadcast),
    **dict.fromkeys(["Add", "Sub", "Sum"], pointwise.tie_sum),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], pointwise.tie_quantization),
    **dict.fromkeys(_POOLING, movement.tie_positions),
    **dict.fromkeys(_REDUCTIONS, movement.tie_reduction),
    **dict.fromkeys(_NORMALIZATIONS, movement.tie_normalization),
    **dict.fromkeys(["Expand", "Tile"], movement.tie_stretch),
    **dict.fromkeys(["LSTM", "GRU", "RNN"], products.tie_recurrent),
    "BatchNormalization": products.tie_batchnorm,
    "Concat": movement.tie_concat,
    "Conv": products.tie_conv,
    "ConvTranspose": products.tie_conv_transpose,
    "DepthToSpace": movement.tie_depth_to_space,
    "Einsum": products.tie_einsum,
    "Gather": movement.tie_gather,
    "Gemm": products.tie_gemm,
    "GroupNormalization": products.tie_group_norm,
    "InstanceNormalization": products.tie_instance_norm,
    "MatMul": products.tie_matmul,
    "Pad": movement.tie_pad,
    "Slice": movement.tie_slice,
    "SpaceToDepth": movement.tie_space_to_depth,
    "Split": movement.tie_split,
    "Transpose": movement.tie_transpose,
}
"""By operator; reshaping ones are in `channels.reshape`, others are not followed."""

RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators that keep the order of elements and change the axes."""

SHAPE_ONLY = frozenset({"Shape", "ConstantOfShape"})
"""Operators that see no values; see `channels.shape_source`."""
