"""What is trained for each weight, and what is stored of it again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from onnxcompress.distillation.grids import hold
from onnxcompress.distillation.operators.quantization import dequantize, quantize
from onnxcompress.distillation.plan import Grid
from onnxcompress.distillation.values import to_torch
from onnxcompress.distillation.weights import weight_uses
from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.quantization.qparams import SIGNED, UNSIGNED, integer_limits

_INTEGERS = frozenset({*SIGNED.values(), *UNSIGNED.values()})

_INTEGER_KERNELS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "GatherBlockQuantized",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)
"""Operators whose weights are not trained."""


class Parameter(ABC):
    """A stored tensor and what is trained for it.

    Args:
        constant: the stored tensor.
        master: the leaf that an optimizer moves.
        mask: bool, True where the master may be other than zero; None leaves it free.

    Attributes:
        constant: the stored tensor.
        master: the leaf.
        start: the master as it was at the start.
    """

    def __init__(self, constant: Constant, master: torch.Tensor, mask: np.ndarray | None = None):
        self.constant = constant
        self.master = master.detach().requires_grad_()
        self.start = self.master.detach().clone()
        self._mask = None if mask is None else torch.from_numpy(mask.copy())

    @abstractmethod
    def current(self) -> torch.Tensor:
        """What the graph reads, as a differentiable function of `master`."""

    def array(self) -> np.ndarray:
        """What is to be stored, of the stored tensor's type."""
        return self.current().detach().numpy().astype(self.constant.dtype)

    @property
    def changed(self) -> bool:
        """Whether what is to be stored differs from what is stored."""
        return self.array().tobytes() != np.ascontiguousarray(self.constant.values).tobytes()

    def settle(self) -> None:
        """Puts back to zero what must stay zero, after the master was moved."""
        if self._mask is not None:
            with torch.no_grad():
                self.master *= self._mask


class FloatParameter(Parameter):
    """A float tensor, perhaps with places that stay zero, perhaps held to a grid.

    Args:
        constant: float32.
        precision: what it is trained in.
        mask: bool, True where it may be other than zero.
        grid: the values it is held to.
        channel_axis: each index along it has a factor of its own on the grid.
    """

    def __init__(
        self,
        constant: Constant,
        precision: torch.dtype,
        mask: np.ndarray | None = None,
        grid: Grid = Grid.NONE,
        channel_axis: int = 0,
    ):
        super().__init__(constant, to_torch(constant.values, precision), mask)
        self._grid = grid
        self._channel_axis = channel_axis
        self.settle()

    def current(self) -> torch.Tensor:
        """See `Parameter.current`."""
        return hold(self.master, self._grid, self._channel_axis)


class ScaleParameter(Parameter):
    """Scales of quantization: positive, and moved by shares of themselves.

    Args:
        constant: float32.
        precision: what it is trained in.
    """

    def __init__(self, constant: Constant, precision: torch.dtype):
        self._stored = to_torch(constant.values, precision)
        super().__init__(constant, torch.zeros_like(self._stored))

    def current(self) -> torch.Tensor:
        """See `Parameter.current`."""
        return self._stored * self.master.exp()


class BiasScale(ScaleParameter):
    """The scale of an int32 bias: it follows those of the input and the weight.

    Integer kernels add such a bias to sums of products as it is, whatever scale is stored.

    Args:
        constant: float32.
        precision: what it is computed in.
        factors: trained scales; what is stored is a product of these and of others that stay.
    """

    def __init__(
        self, constant: Constant, precision: torch.dtype, factors: Sequence[ScaleParameter]
    ):
        super().__init__(constant, precision)
        self._factors = tuple(factors)

    def current(self) -> torch.Tensor:
        """See `Parameter.current`; its own master is not moved."""
        value = self._stored
        for each in self._factors:
            value = value * each.master.exp().reshape(-1 if each.master.numel() > 1 else ())
        return value


class IntegerParameter(Parameter):
    """Stored integers: a float master is rounded to them in every step.

    Args:
        constant: integers that one DequantizeLinear reads.
        node: that node.
        scale: the trained scale, if it is trained.
        precision: what they are trained in.
        mask: bool, True where what they stand for may be other than zero.
    """

    def __init__(
        self,
        constant: Constant,
        node: Node,
        scale: ScaleParameter | None,
        precision: torch.dtype,
        mask: np.ndarray | None = None,
    ):
        stored_scale, stored_zero = query.constant(node, 1), query.constant(node, 2)
        assert stored_scale is not None
        self._scale = scale
        self._stored_scale = to_torch(stored_scale.values, precision)
        self._zero = None if stored_zero is None else to_torch(stored_zero.values)
        self._where = node.int_attr("axis", 1), node.int_attr("block_size", 0)
        if constant.dtype in _INTEGERS:
            self._limits = integer_limits(constant.dtype)
        else:  # a bias
            self._limits = -(1 << 31), (1 << 31) - 1
        integers = to_torch(constant.values).to(precision)
        master = dequantize(integers, self._stored_scale, self._zero, *self._where)
        super().__init__(constant, master, mask)
        self._first = self.current().detach()

    def array(self) -> np.ndarray:
        """See `Parameter.array`; a bias may have more digits than its master."""
        found = self.current().detach()
        moved = found.double().numpy().clip(*self._limits).astype(self.constant.dtype)
        return np.where((found == self._first).numpy(), self.constant.values, moved)

    def current(self) -> torch.Tensor:
        """See `Parameter.current`: integers, held as floats."""
        scale = self._stored_scale if self._scale is None else self._scale.current()
        return quantize(self.master, scale, self._zero, *self._limits, *self._where)


def find_parameters(
    model: Model,
    precision: torch.dtype,
    *,
    frozen: Collection[Constant] = (),
    masks: Mapping[Constant, np.ndarray] | None = None,
    grids: Mapping[Constant, Grid] | None = None,
    learn_scales: bool = False,
) -> tuple[list[Parameter], dict[str, str]]:
    """What can be trained in a model, and what cannot.

    Args:
        model: bodies included.
        precision: what is trained in.
        frozen: stored tensors that are left out.
        masks: bool, True where a stored tensor may be other than zero.
        grids: what float weights are held to.
        learn_scales: whether scales of quantization are trained too.

    Returns:
        The parameters, and for each node whose weight is none of them (by name) the reason.
    """
    masks, grids = masks or {}, grids or {}
    parameters: list[Parameter] = []
    left: dict[str, str] = {}
    scales = _scales(model, precision, frozen) if learn_scales else {}
    for constant in model.constants():
        uses = weight_uses(constant)
        if not uses:
            continue
        node = uses[0]
        mask = masks.get(constant)
        reader = _dequantizer(constant)
        if constant in frozen:
            left[node.name] = f"{constant.name!r} is left as it is"
        elif constant.dtype == np.float32:
            axis = output_channel_axis(node, len(constant.shape)) if node.op in WEIGHTED_OPS else 0
            grid = grids.get(constant, Grid.NONE)
            parameters.append(FloatParameter(constant, precision, mask, grid, axis))
        elif reader is not None:
            scale = query.constant(reader, 1)
            assert scale is not None
            parameters.append(
                IntegerParameter(constant, reader, scales.get(scale), precision, mask)
            )
        elif constant.dtype.kind == "f":
            left[node.name] = f"{constant.name!r} is {constant.dtype}; float32 is trained"
        elif any(each.op == "DequantizeLinear" for each in query.consumers(constant)):
            left[node.name] = f"{constant.name!r} is not read by one DequantizeLinear alone"
    for _, node in model.nodes():
        if node.op in _INTEGER_KERNELS:
            left[node.name] = f"{node.op} stores integers of its own; train before it comes"
    return [*parameters, *scales.values()], left


def _scales(
    model: Model, precision: torch.dtype, frozen: Collection[Constant]
) -> dict[Constant, ScaleParameter]:
    """The scales to train, those of biases after those that they follow."""
    found = {
        constant: ScaleParameter(constant, precision)
        for constant in model.constants()
        if _is_scale(constant) and not _belongs_to(constant, frozen)
    }
    followers: dict[Constant, ScaleParameter] = {}
    for constant in list(found):
        sources = _followed_by(constant)
        if sources is None:
            continue
        del found[constant]
        if len(query.consumers(constant)) > 1:
            # It cannot follow several, so none of them may move.
            for source in sources:
                found.pop(source, None)
        else:
            followers[constant] = BiasScale(
                constant, precision, [found[each] for each in sources if each in found]
            )
    return {**found, **followers}


def _belongs_to(scale: Constant, frozen: Collection[Constant]) -> bool:
    """Whether a scale, or what it is the scale of, keeps its values."""
    return scale in frozen or any(
        node.inputs[0] in frozen for node in query.consumers(scale) if node.inputs
    )


def _followed_by(constant: Constant) -> list[Constant] | None:
    """The scales of inputs and weights that a bias's scale is a product of; None for others."""
    sources: list[Constant] = []
    is_bias = False
    for reader in query.consumers(constant):
        integers = query.constant(reader, 0)
        if integers is None or integers.dtype != np.int32:
            continue
        is_bias = True
        for node in query.consumers(reader.outputs[0]):
            for at in (0, 1):
                before = query.producer(node.inputs[at])
                scale = None if before is None else query.constant(before, 1)
                if before is not None and before.op == "DequantizeLinear" and scale is not None:
                    sources.append(scale)
    return sources if is_bias else None


def _dequantizer(constant: Constant) -> Node | None:
    """The DequantizeLinear that alone reads stored integers, with a stored scale."""
    readers = query.consumers(constant)
    if len(readers) != 1 or readers[0].op != "DequantizeLinear":
        return None
    if constant.dtype not in {*_INTEGERS, np.dtype(np.int32)}:
        return None
    node = readers[0]
    has_zero = query.constant(node, 2) is not None or not query.has_input(node, 2)
    return node if has_zero and query.constant(node, 1) is not None else None


def _is_scale(constant: Constant) -> bool:
    """Whether a stored tensor is the scale of quantization and nothing else."""
    readers = query.consumers(constant)
    return constant.dtype == np.float32 and all(
        node.op in ("QuantizeLinear", "DequantizeLinear")
        and [at for at, each in enumerate(node.inputs) if each is constant] == [1]
        for node in readers
    )
