"""The releases of onnxruntime, as data: what each of them loads, and what a model demands of one.

Measured with the wheels of 1.15 to 1.32, on files of one node for each line below and on all test
models of ONNX itself; ``python -m benchmarks.runtimes`` checks it anew. A line stands here where
files load and are computed rightly from that release on. Releases before 1.15 were not measured: a
model that demands nothing may run on one.

Source: `onnx.helper.VERSION_TABLE` for which opsets and IR versions belong together; onnxruntime's
"ONNX opset support"; com.microsoft operators, version 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np

from onnxcompress.errors import RecipeError
from onnxcompress.ir import elements
from onnxcompress.ir.model import STANDARD, Model, Node, Tensor


class Release(NamedTuple):
    """A release, without its patches: they load the same files."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """A release as `1.16` or `1.16.3`.

        Raises:
            RecipeError: it is written otherwise, or is older than what was measured.
        """
        found = re.fullmatch(r"\s*(\d+)\.(\d+)(\.\w+)*([+-].*)?\s*", text)
        if found is None:
            raise RecipeError(f"{text!r} is no release of onnxruntime; write one as 1.16")
        release = cls(int(found[1]), int(found[2]))
        if release < OLDEST:
            raise RecipeError(
                f"onnxruntime {release} is older than the releases that are known, {OLDEST} to "
                f"{NEWEST}; what is made for {OLDEST} may still run on it"
            )
        return release

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


OLDEST: Final = Release(1, 15)
NEWEST: Final = Release(1, 32)
_LATER: Final = Release(NEWEST.major, NEWEST.minor + 1)

_OPSETS: Final[Mapping[str, Mapping[int, str]]] = {
    "": {
        **dict.fromkeys(range(20), "1.15"),
        **{20: "1.17", 21: "1.18", 22: "1.21", 23: "1.23", 24: "1.24", 25: "1.24"},
        **{26: "1.25", 27: "1.32", 28: "1.32"},
    },
    "ai.onnx.ml": {**dict.fromkeys(range(4), "1.15"), 4: "1.17", 5: "1.18"},
}
_IR_VERSIONS: Final[Mapping[int, str]] = {
    **dict.fromkeys(range(10), "1.15"),
    **{10: "1.18", 11: "1.23", 12: "1.24", 13: "1.24", 14: "1.32"},
}
_ELEMENTS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(
        ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
        ("1.16", "a float of 8 bits"),
    ),
    **dict.fromkeys(("int4", "uint4"), ("1.19", "an integer of 4 bits")),
    **dict.fromkeys(("int2", "uint2"), ("1.24", "an integer of 2 bits")),
    "float8_e8m0fnu": ("1.28", "a power of two of 8 bits"),
}
"""By numpy's name: the first release that computes with it."""

_4_BITS: Final = ("int4", "uint4")
_NARROW: Final = ("int8", "uint8", "int16", "uint16", "uint32", "uint64")


def _always(node: Node) -> bool:
    del node
    return True


@dataclass(frozen=True)
class _Line:
    """What some nodes need.

    Attributes:
        since: the first release that has it.
        ops: the operators; of other domains than the standard one as `domain.Op`.
        what: it, in words behind the operator's name.
        opset: from which standard opset on; an operator's older forms are known longer.
        when: which nodes of these operators.
    """

    since: str
    ops: tuple[str, ...]
    what: str = ""
    opset: int = 0
    when: Callable[[Node], bool] = _always


def _reads(*dtypes: str) -> Callable[[Node], bool]:
    kinds = frozenset(dtypes)
    return lambda node: any(t.dtype is not None and t.dtype.name in kinds for t in node.inputs)


def _has(*attributes: str) -> Callable[[Node], bool]:
    """With attributes that older releases refuse, whatever they say."""
    return lambda node: any(name in node.attrs for name in attributes)


def _sets(*attributes: str) -> Callable[[Node], bool]:
    return lambda node: all(node.int_attr(name, 0) for name in attributes)


def _gives(index: int) -> Callable[[Node], bool]:
    return lambda node: len(node.inputs) > index and bool(node.inputs[index].name)


def _of_bits(bits: int, lowest_level: int = 0) -> Callable[[Node], bool]:
    """MatMulNBits of a width, where it asks for a lower level of accuracy than that, if any."""
    return lambda node: (
        node.int_attr("bits", 4) == bits
        and (not lowest_level or node.int_attr("accuracy_level", 0) < lowest_level)
    )


def _casts_4_bits(node: Node) -> bool:
    return node.int_attr("to", 0) in (elements.INT4, elements.UINT4) or _reads(*_4_BITS)(node)


def _has_float_zero_points(node: Node) -> bool:
    return _gives(3)(node) and node.inputs[3].dtype == np.float32


def _contrib(*ops: str) -> tuple[str, ...]:
    return tuple(f"com.microsoft.{op}" for op in ops)


_NBITS_SINCE: Final[Mapping[int, str]] = {4: "1.17", 8: "1.22", 2: "1.24"}
_INTEGERS_SINCE: Final[Mapping[int, str]] = {
    **{2: _ELEMENTS["int2"][0], 4: _ELEMENTS["int4"][0]},
    **{8: str(OLDEST), 16: _OPSETS[""][21]},
}
_BLOCKS_SINCE: Final = "1.19"

_QDQ: Final = ("QuantizeLinear", "DequantizeLinear")
_ARITHMETIC: Final = ("Add", "Sub", "Mul", "Div")
_COMPARISONS: Final = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_NBITS: Final = _contrib("MatMulNBits")
_ROWS: Final = _contrib("GatherBlockQuantized")
_HEADS: Final = _contrib("MultiHeadAttention")
_GROUPS: Final = _contrib("GroupQueryAttention")

_LINES: Final = (
    _Line("1.16", ("AveragePool", "Equal"), "of opset 19", 19),
    _Line(_BLOCKS_SINCE, _QDQ, "with a scale for each block", 21, _sets("block_size")),
    _Line("1.20", ("QLinearMatMul",), "of opset 21", 21),
    _Line("1.21", (*_ARITHMETIC, *_COMPARISONS), "of narrow integers", when=_reads(*_NARROW)),
    _Line("1.21", ("ai.onnx.ml.TreeEnsemble",)),
    _Line("1.23", ("Cast",), "of integers of 4 bits", 21, _casts_4_bits),
    _Line("1.24", ("Max", "Min"), "of integers of 8 bits", when=_reads("int8", "uint8")),
    _Line("1.24", ("RotaryEmbedding",), "of a part", 23, _sets("rotary_embedding_dim")),
    _Line("1.25", ("DeformConv", "TensorScatter")),
    _Line("1.25", ("DFT",), "back to real numbers", when=_sets("inverse", "onesided")),
    _Line("1.25", ("LpNormalization",), "of opset 22", 22),
    _Line("1.31", ("Where",), "of integers of 8 bits", when=_reads("int8")),
    _Line(
        "1.32", ("Attention",), "in a window", when=_has("left_window_size", "right_window_size")
    ),
    _Line("1.32", ("BitShift",), "of integers of 16 bits", when=_reads("uint16")),
    # 1.16 has it too, but mistakes the zero points of an odd number of blocks.
    _Line(_NBITS_SINCE[4], _NBITS),
    _Line("1.18", _NBITS, "with an order of groups", when=_gives(4)),
    _Line("1.18", _NBITS, "with floats for zero points", when=_has_float_zero_points),
    _Line("1.19", _NBITS, "with a bias", when=_gives(5)),
    _Line(_NBITS_SINCE[8], _NBITS, "of 8 bits", when=_of_bits(8)),
    _Line("1.23", _NBITS, "of 8 bits that rounds nothing else", when=_of_bits(8, 4)),
    _Line(_NBITS_SINCE[2], _NBITS, "of 2 bits", when=_of_bits(2)),
    _Line("1.20", _ROWS),
    _Line("1.23", _ROWS, "of bytes", when=_reads("uint8")),
    _Line("1.17", _contrib(*_QDQ), "of 16 bits", when=_reads("int16", "uint16")),
    _Line("1.16", (*_HEADS, *_contrib("SkipSimplifiedLayerNormalization"))),
    _Line("1.17", _HEADS, "with a direction", when=_has("unidirectional")),
    _Line("1.17", _contrib("RotaryEmbedding", "MatMulBnb4", "MoE", "UnfoldTensor")),
    _Line("1.18", (*_GROUPS, *_contrib("SparseAttention", "QMoE", "GemmaRotaryEmbedding"))),
    _Line("1.19", _contrib("RotaryEmbedding"), "of packed rows", when=_has("is_packed_batching")),
    _Line("1.19", _GROUPS, "with a smooth softmax", when=_has("smooth_softmax")),
    _Line("1.20", _GROUPS, "with capped scores", when=_has("softcap")),
    _Line("1.23", _GROUPS, "that gives its scores", when=_has("qk_output")),
    _Line("1.25", _GROUPS, "with a quantized cache", when=_has("k_quant_type", "v_quant_type")),
    _Line("1.23", _contrib("PagedAttention")),
    _Line("1.25", _contrib("CausalConvWithState", "LinearAttention")),
    _Line("1.28", _contrib("MatMulNBitsMlp", "MatMulNBitsQkv")),
    _Line("1.32", _contrib("GatedDeltaNet", "GatedRMSNorm", "LinearAttentionGate")),
)


@dataclass(frozen=True)
class Demand:
    """Something in a model that not every known release loads.

    Attributes:
        what: it, in words, and where the first of its kind is.
        since: the first release that loads it.
    """

    what: str
    since: Release

    def __str__(self) -> str:
        return f"{self.what} needs onnxruntime {self.since} or newer"


def demands(model: Model) -> list[Demand]:
    """What a model demands of onnxruntime beyond the oldest known release, the newest first.

    Operators of domains that onnxruntime does not define are left to whoever registers them.
    """
    found: dict[str, Demand] = {}
    for kind, what, since in _all_demands(model):
        release = Release.parse(since)
        if release > OLDEST and kind not in found:
            found[kind] = Demand(what, release)
    return sorted(found.values(), key=lambda each: each.since, reverse=True)


def oldest_release(model: Model) -> Release:
    """The oldest known release that loads and runs a model."""
    return max((each.since for each in demands(model)), default=OLDEST)


def why_not_on(model: Model, release: Release) -> str | None:
    """Why a release does not load a model; None if it does, as far as is known."""
    newer = [each for each in demands(model) if each.since > release]
    return "; ".join(map(str, newer)) or None


def last_opset(release: Release) -> int:
    """The last standard opset that a release loads."""
    known = _OPSETS[""].items()
    return max(opset for opset, since in known if Release.parse(since) <= release)


def knows_nbits(release: Release, bits: int) -> bool:
    """Whether a release computes MatMulNBits of that width; with 8 bits, rounding activations."""
    return release >= Release.parse(_NBITS_SINCE[bits])


def knows_dequantized(release: Release, bits: int, *, in_blocks: bool) -> bool:
    """Whether a release computes DequantizeLinear of integers of that width."""
    since = [_INTEGERS_SINCE[bits], *([_BLOCKS_SINCE] if in_blocks else [])]
    return release >= max(map(Release.parse, since))


def _all_demands(model: Model) -> Iterator[tuple[str, str, str]]:
    """The kind, the words and the release of whatever has a line."""
    envelope = model.envelope
    ir_version = envelope.ir_version
    yield "ir", f"IR version {ir_version}", _IR_VERSIONS.get(ir_version, str(_LATER))
    imports = [*envelope.opset_import]
    imports += [entry for function in envelope.functions for entry in function.opset_import]
    for entry in imports:
        domain = "" if entry.domain in STANDARD else entry.domain
        if domain in _OPSETS:
            name = f"opset {entry.version}" + (f" of {domain}" if domain else "")
            yield name, name, _OPSETS[domain].get(entry.version, str(_LATER))
    for _, node in model.nodes():
        for tensor in (*node.inputs, *node.outputs):
            yield from _of_tensor(tensor)
        yield from _of_node(node, model.opset)
    for tensor in (*model.graph.inputs, *model.graph.outputs):
        yield from _of_tensor(tensor)


def _of_tensor(tensor: Tensor) -> Iterator[tuple[str, str, str]]:
    if tensor.dtype is not None and tensor.dtype.name in _ELEMENTS:
        since, what = _ELEMENTS[tensor.dtype.name]
        yield what, f"{what} ({tensor.name!r})", since


def _of_node(node: Node, opset: int) -> Iterator[tuple[str, str, str]]:
    name = node.op if node.domain in STANDARD else f"{node.domain}.{node.op}"
    for line in _BY_OP.get(name, ()):
        if opset >= line.opset and line.when(node):
            kind = f"{node.op} {line.what}".strip()
            yield kind, f"{kind} ({node.name!r})", line.since


_BY_OP: Final[Mapping[str, tuple[_Line, ...]]] = {
    op: tuple(line for line in _LINES if op in line.ops)
    for op in {o for e in _LINES for o in e.ops}
}
