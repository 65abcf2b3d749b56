"""Weights behind nodes that hand stored numbers on: transposed, renamed, reshaped, joined."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from onnx import helper

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor, Variable
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis

Values = Sequence[np.ndarray]

_DEEPEST = 20
"""Nodes between a weight and what is stored."""


def _transpose(node: Node, given: Values) -> np.ndarray:
    return np.transpose(given[0], node.ints_attr("perm") or None)


def _cast(node: Node, given: Values) -> np.ndarray:
    return given[0].astype(helper.tensor_dtype_to_np_dtype(node.int_attr("to", 1)))


def _axes(node: Node, given: Values) -> tuple[int, ...] | None:
    return tuple(given[1].tolist()) if len(given) > 1 else node.ints_attr("axes") or None


def _reshape(node: Node, given: Values) -> np.ndarray:
    x, target = given[0], given[1].tolist()
    if not node.int_attr("allowzero", 0):
        target = [length or x.shape[axis] for axis, length in enumerate(target)]
    return x.reshape(target)


def _flatten(node: Node, given: Values) -> np.ndarray:
    axis = node.int_attr("axis", 1)
    axis = axis if axis >= 0 else axis + given[0].ndim
    return given[0].reshape(int(np.prod(given[0].shape[:axis], dtype=int)), -1)


VIEWS: Mapping[str, Callable[[Node, Values], np.ndarray]] = {
    "Cast": _cast,
    "Concat": lambda node, given: np.concatenate(given, node.int_attr("axis", 0)),
    "Flatten": _flatten,
    "Identity": lambda _, given: given[0],
    "Reshape": _reshape,
    "Squeeze": lambda node, given: np.squeeze(given[0], _axes(node, given)),
    "Transpose": _transpose,
    "Unsqueeze": lambda node, given: np.expand_dims(given[0], _axes(node, given) or ()),
}
"""Operators that hand on what they read, by the function that they are."""

WEIGHTS: Mapping[str, Sequence[int]] = {
    **dict.fromkeys(["Conv", "ConvTranspose", "Gemm", "MatMul"], (1,)),
    **dict.fromkeys(["GRU", "LSTM", "RNN"], (1, 2)),
    "Gather": (0,),
}
"""By operator, the inputs that are weights or tables where they are stored."""


WIDE = frozenset(map(np.dtype, (np.float32, np.float64)))
ANY_FLOAT = WIDE | frozenset(map(np.dtype, (np.float16, ml_dtypes.bfloat16)))
"""Floats that weights are stored in; the small ones often behind a Cast to float32."""


def sources(
    tensor: Tensor, floats: Collection[np.dtype] = ANY_FLOAT, depth: int = 0
) -> frozenset[Constant] | None:
    """The stored floats that a tensor is made of by views alone; None if it is made otherwise.

    Args:
        tensor: any.
        floats: the types that count; what is stored in others is packed already.
        depth: views above it.
    """
    if isinstance(tensor, Constant):
        return frozenset([tensor]) if tensor.dtype in floats else None
    node = query.producer(tensor)
    if node is None or depth > _DEEPEST or node.op not in VIEWS or node.domain not in STANDARD:
        return None
    joined = list(node.inputs) if node.op == "Concat" else list(node.inputs)[:1]
    if not all(isinstance(each, Constant) for each in list(node.inputs)[len(joined) :]):
        return None
    parts = [sources(each, floats, depth + 1) for each in joined]
    return frozenset().union(*(part for part in parts if part)) if all(parts) else None


def values_of(tensor: Tensor) -> np.ndarray:
    """What a tensor holds that has `sources`."""
    if isinstance(tensor, Constant):
        return tensor.values
    node = tensor.inputs[0]
    return VIEWS[node.op](node, [values_of(each) for each in node.inputs])


@dataclass(frozen=True)
class _Place:
    """An input of a node that stands for a stored weight."""

    node: Node
    index: int
    tensor: Tensor


class Lifted:
    """For as long as a pass runs, nodes read their weights as if those were stored as they are.

    Views are looked through, and a MatMul reads the one matrix of a weight of [1, k, n].

    Args:
        model: its nodes read stored tensors where they read views of them, until `put_back`.
        edit: names those; what it records is left to the pass.
        rank: tells how many axes a tensor has, None where that is not known.
        once: whether views of tensors that some node reads as its weight stay what they are.
        floats: the types that stored weights may have.
    """

    def __init__(
        self,
        model: Model,
        edit: Editor,
        rank: Callable[[Tensor], int | None],
        *,
        once: bool,
        floats: Collection[np.dtype] = ANY_FLOAT,
    ):
        self._edit = edit
        self._rank = rank
        self._floats = floats
        self._made: dict[Tensor, Constant] = {}
        self._places: list[tuple[_Place, Constant]] = []
        self._sources: dict[Node, frozenset[Constant]] = {}
        self._read: dict[Node, tuple[Tensor, int]] = {}
        """By product, its weight as the pass sees it, and the axis of output channels."""
        for node in query.nodes(model, WEIGHTS):
            for index in WEIGHTS[node.op]:
                if index < len(node.inputs) and (found := sources(node.inputs[index], floats)):
                    self._sources[node] = self._sources.get(node, frozenset()) | found
                    if not (once and any(map(_is_read_itself, found))):
                        self._lift(_Place(node, index, node.inputs[index]))
            if node in self._sources and node.op in WEIGHTED_OPS:
                weight = node.inputs[1]
                axes = len(weight.shape) if isinstance(weight, Constant) else 2
                self._read[node] = weight, output_channel_axis(node, axes)

    def _lift(self, place: _Place) -> None:
        node, tensor = place.node, place.tensor
        stored = tensor if isinstance(tensor, Constant) else self._stored(tensor)
        if node.op == "MatMul" and (shape := self._matrix(node, stored)) is not None:
            stored = self._flat(stored, shape)
        if stored is not tensor:
            node.inputs[place.index] = stored
            self._places.append((place, stored))

    def _stored(self, tensor: Variable) -> Constant:
        """The tensor itself, stored: the very one that it renames, or a new one."""
        whole: Tensor = tensor
        while not isinstance(whole, Constant) and whole.inputs[0].op == "Identity":
            whole = whole.inputs[0].inputs[0]
        if isinstance(whole, Constant):
            return whole
        if whole not in self._made:
            values = np.ascontiguousarray(values_of(whole))
            self._made[whole] = self._edit.constant(f"{whole.name}_stored", values)
        return self._made[whole]

    def _flat(self, stored: Constant, shape: tuple[int, ...]) -> Constant:
        if stored not in self._made:
            values = np.ascontiguousarray(stored.values.reshape(shape))
            self._made[stored] = self._edit.constant(f"{stored.name}_matrix", values)
        return self._made[stored]

    def _matrix(self, node: Node, weight: Constant) -> tuple[int, ...] | None:
        """The shape of the one matrix that a weight is; None if it is plain, or several."""
        rank = len(weight.shape)
        if rank < 3 or any(length != 1 for length in weight.shape[:-2]):
            return None
        given = self._rank(node.inputs[0])
        return weight.shape[-2:] if given is not None and given >= rank else None

    def put_back(self) -> None:
        """Lets those nodes read views again whose weights stayed as they were."""
        for place, stored in self._places:
            inputs = place.node.inputs
            if place.index < len(inputs) and inputs[place.index] is stored:
                inputs[place.index] = place.tensor

    def beside(self, live: Collection[Node]) -> Mapping[Node, Node]:
        """Nodes whose weight was packed while it stays as it was, each with a reader that keeps it.

        Args:
            live: the nodes of the model once the pass is done with it.
        """
        found: dict[Node, Node] = {}
        for node, own in self._sources.items():
            if self._reads(node, own):
                continue
            readers = (reader for each in own for reader in final_readers(each) if reader in live)
            if (reader := next(readers, None)) is not None:
                found[node] = reader
        return found

    def stored_twice(self) -> Sequence[tuple[Node, Node]]:
        """Products that were packed by one weight each, along its rows and along its columns."""
        packed: dict[frozenset[Constant], dict[tuple[Tensor, int], Node]] = {}
        for node, read in self._read.items():
            own = self._sources[node]
            if not self._reads(node, own):
                packed.setdefault(own, {}).setdefault(read, node)
        groups = [list(alike.values()) for alike in packed.values() if len(alike) > 1]
        return [(first, other) for first, *others in groups for other in others]

    def _reads(self, node: Node, own: frozenset[Constant]) -> bool:
        """Whether a node still reads what its weight was made of."""
        indices = WEIGHTS.get(node.op, ())
        tensors = [node.inputs[index] for index in indices if index < len(node.inputs)]
        read = [sources(each, self._floats) for each in tensors]
        return any(each is not None and not own.isdisjoint(each) for each in read)


def _is_read_itself(weight: Constant) -> bool:
    """Whether a node reads a stored tensor as its weight, and not a view of it."""
    return any(
        node.op in WEIGHTS and any(weight is node.inputs[index] for index in WEIGHTS[node.op])
        for node in query.consumers(weight)
        if max(WEIGHTS.get(node.op, (0,))) < len(node.inputs)
    )


def final_readers(tensor: Tensor) -> list[Node]:
    """The nodes that read a tensor, views of it looked through."""
    found: list[Node] = []
    for reader in query.consumers(tensor):
        if reader.op in VIEWS and reader.domain in STANDARD:
            found += [each for output in reader.outputs for each in final_readers(output)]
        else:
            found.append(reader)
    return found
