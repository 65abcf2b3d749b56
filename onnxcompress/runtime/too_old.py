"""What a model demands of onnxruntime, so that an older one is told by version, not in its words.

Measured: each release from 1.18.1 on, with a model of one node for each demand, optimized and not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from onnxcompress.errors import SessionError
from onnxcompress.ir.model import Model
from onnxcompress.runtime.session import ONNXRUNTIME_VERSION

_OPSETS: Final[Mapping[int, str]] = {22: "1.21", 23: "1.23", 24: "1.24", 25: "1.24", 26: "1.25"}
_BITS: Final[Mapping[str, int]] = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
_BITS_SINCE: Final[Mapping[int, str]] = {2: "1.24", 4: "1.19"}
_BLOCKS_SINCE: Final = "1.19"


def require_runtime(model: Model, installed: str = ONNXRUNTIME_VERSION) -> None:
    """Checks that onnxruntime is new enough for a model, as far as we know.

    Raises:
        SessionError: it is not; what needs which version is told.
    """
    here = _number(installed)
    if here >= _NEWEST:
        return
    for what, version in _demands(model).items():
        if here < _number(version):
            raise SessionError(f"{what} needs onnxruntime {version} or newer; this is {installed}")


def _demands(model: Model) -> dict[str, str]:
    demands: dict[str, str] = {}
    for tensor in model.constants():
        bits = _BITS.get(tensor.dtype.name)
        if bits is not None:
            demands[f"an integer of {bits} bits ({tensor.name!r})"] = _BITS_SINCE[bits]
    for _, node in model.nodes():
        if node.op in ("QuantizeLinear", "DequantizeLinear") and node.int_attr("block_size", 0):
            demands[f"a scale for each block ({node.name!r})"] = _BLOCKS_SINCE
    if model.opset in _OPSETS:
        demands[f"opset {model.opset}"] = _OPSETS[model.opset]
    return demands


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", version)[:2])


_NEWEST: Final = max(_number(each) for each in (*_OPSETS.values(), *_BITS_SINCE.values()))
