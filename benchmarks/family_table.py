"""The families of compression that are measured, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Group(Enum):
    """What models of a group have in common; those of one group are compared bit for bit."""

    STATIC_8 = "8-bit static"
    DYNAMIC_8 = "8-bit dynamic"
    WEIGHTS_8 = "8-bit weights"
    WEIGHTS_4 = "4-bit weights"
    FEWER = "fewer bits"
    FIXED_POINT = "fixed point"
    FLOAT = "storage floats"


LANGUAGE_MODELS = frozenset({"smollm2"})
"""Subjects that are judged by perplexity: large, and no place for integer activations."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One way to compress.

    Attributes:
        name: what the table calls it.
        group: what it is compared with.
        passes: what follows the clean-up, as `--pass` takes it.
        peer: instead, the name of one of `benchmarks.peers`.
        language: whether it is tried on language models too.
    """

    name: str
    group: Group
    passes: tuple[str, ...] = ()
    peer: str | None = None
    language: bool = False

    def suits(self, subject: str) -> bool:
        """Whether it is tried on a subject."""
        return self.language or subject not in LANGUAGE_MODELS


_BLOCKS = "granularity=per-block,block_size=32,symmetric=false"

FAMILIES: tuple[Family, ...] = (
    Family(
        name="onnxruntime static",
        group=Group.STATIC_8,
        peer="onnxruntime static, per channel, min-max",
    ),
    Family(name="static", group=Group.STATIC_8, passes=("quantize-static",)),
    Family(
        name="static, ranges by output error",
        group=Group.STATIC_8,
        passes=("quantize-static:observer=output-error",),
    ),
    Family(
        name="static, learned rounding",
        group=Group.STATIC_8,
        passes=("round-adaptively", "quantize-static"),
    ),
    Family(name="onnxruntime dynamic", group=Group.DYNAMIC_8, peer="onnxruntime dynamic"),
    Family(name="dynamic", group=Group.DYNAMIC_8, passes=("quantize-dynamic",), language=True),
    Family(
        name="dynamic, smoothed",
        group=Group.DYNAMIC_8,
        passes=("smooth-activations", "quantize-dynamic"),
        language=True,
    ),
    Family(
        name="weights, per channel",
        group=Group.WEIGHTS_8,
        passes=("quantize-weights",),
        language=True,
    ),
    Family(
        name="weights, per channel, fastest form",
        group=Group.WEIGHTS_8,
        passes=("quantize-weights:form=auto",),
    ),
    Family(
        name="onnxruntime 4-bit weights",
        group=Group.WEIGHTS_4,
        peer="onnxruntime 4-bit weights, blocks of 32",
        language=True,
    ),
    Family(
        name="plain",
        group=Group.WEIGHTS_4,
        passes=(f"quantize-weights:bits=4,{_BLOCKS}",),
        language=True,
    ),
    Family(
        name="fitted scales",
        group=Group.WEIGHTS_4,
        passes=(f"quantize-weights:bits=4,scales=fitted,{_BLOCKS}",),
    ),
    Family(
        name="GPTQ",
        group=Group.WEIGHTS_4,
        passes=(f"gptq:bits=4,{_BLOCKS}", f"quantize-weights:bits=4,scales=fitted,{_BLOCKS}"),
        language=True,
    ),
    Family(
        name="GPTQ, fastest form",
        group=Group.WEIGHTS_4,
        passes=(
            f"gptq:bits=4,form=auto,{_BLOCKS}",
            f"quantize-weights:bits=4,scales=fitted,form=auto,{_BLOCKS}",
        ),
    ),
    Family(
        name="2 bits, fitted scales",
        group=Group.FEWER,
        passes=(f"quantize-weights:bits=2,scales=fitted,{_BLOCKS}",),
    ),
    Family(
        name="2 bits, GPTQ; tables 4 bits",
        group=Group.FEWER,
        passes=(f"gptq:bits=2,{_BLOCKS}", f"quantize-weights:bits=4,scales=fitted,{_BLOCKS}"),
    ),
    Family(name="palette of 16", group=Group.FEWER, passes=("palettize-weights:entries=16",)),
    Family(name="ternary", group=Group.FEWER, passes=("ternarize-weights",)),
    Family(name="binary, 1 base", group=Group.FEWER, passes=("binarize-weights:bases=1",)),
    Family(name="binary, 3 bases", group=Group.FEWER, passes=("binarize-weights:bases=3",)),
    Family(name="8-bit words", group=Group.FIXED_POINT, passes=("quantize-fixed-point",)),
    Family(
        name="12-bit words",
        group=Group.FIXED_POINT,
        passes=("quantize-fixed-point:word_length=12",),
    ),
    Family(
        name="float16 weights",
        group=Group.FLOAT,
        passes=("convert-float:dtype=float16",),
    ),
    Family(name="bfloat16 weights", group=Group.FLOAT, passes=("convert-float:dtype=bfloat16",)),
)
"""In the order of the table's rows."""
