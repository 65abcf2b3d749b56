"""What each onnxruntime loads: the table beside onnx's own, and beside the installed one."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest
from onnx import TensorProto, helper

from onnxcompress.errors import RecipeError, SessionError
from onnxcompress.ir import elements
from onnxcompress.ir.from_proto import import_model
from onnxcompress.releases import (
    NEWEST,
    OLDEST,
    Release,
    demands,
    last_opset,
    oldest_release,
    why_not_on,
)
from onnxcompress.runtime.session import ONNXRUNTIME_VERSION, Session
from tests.helpers import parse

HERE = Release.parse(ONNXRUNTIME_VERSION)


def _relu(opset: int, ir_version: int) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def _headers() -> Iterator[tuple[int, int]]:
    """Opsets beside an IR version that all load, and IR versions beside such an opset."""
    yield from ((opset, 8) for opset in range(7, 30))
    yield from ((13, ir_version) for ir_version in range(3, 16))


@pytest.mark.parametrize(("opset", "ir_version"), [*_headers()])
def test_the_installed_one_loads_what_the_table_says(opset: int, ir_version: int) -> None:
    content = _relu(opset, ir_version).SerializeToString()
    if oldest_release(import_model(_relu(opset, ir_version))) <= HERE:
        Session(content)
        return
    with pytest.raises(SessionError):
        Session(content)


def test_opsets_and_ir_versions_come_as_onnx_pairs_them() -> None:
    before = OLDEST
    for _, ir_version, opset, *_ in helper.VERSION_TABLE:
        by_opset = oldest_release(import_model(_relu(opset, 3)))
        by_ir = oldest_release(import_model(_relu(1, ir_version)))
        assert before <= by_opset, opset  # an opset comes with no earlier release than the last
        assert by_ir <= by_opset, ir_version  # and never before the IR version that it came with
        before = by_opset


@pytest.mark.parametrize(
    ("release", "opset"), [("1.15", 19), ("1.16", 19), ("1.18", 21), ("1.20", 21), ("1.24", 25)]
)
def test_the_last_opset(release: str, opset: int) -> None:
    assert last_opset(Release.parse(release)) == opset


@pytest.mark.parametrize(
    ("text", "release", "told"),
    [
        ("y = com.microsoft.MatMulNBits <bits = 4> (x, b, s)", "1.17", "MatMulNBits ('n')"),
        (
            "y = com.microsoft.MatMulNBits <bits = 8, accuracy_level = 4> (x, b, s)",
            "1.22",
            "8 bits",
        ),
        ("y = com.microsoft.MatMulNBits <bits = 8> (x, b, s)", "1.23", "rounds nothing else"),
        ("y = com.microsoft.MatMulNBits <bits = 2> (x, b, s)", "1.24", "of 2 bits"),
        ("y = com.microsoft.MatMulNBits (x, b, s, , , z)", "1.19", "with a bias"),
        ("y = com.microsoft.GatherBlockQuantized (b, i, s)", "1.23", "of bytes"),
        ("y = com.microsoft.GroupQueryAttention <softcap = 1.0> (x)", "1.20", "capped scores"),
        ("y = com.microsoft.Gelu(x)", "1.15", ""),
        ("y = somebody.Else(x)", "1.15", ""),
        ("y = DequantizeLinear <block_size = 2> (b, s)", "1.19", "a scale for each block"),
        ("y = Add(b, b)", "1.21", "Add of narrow integers ('n')"),
        ("y = Add(x, x)", "1.15", ""),
        ("y = AveragePool <kernel_shape = [1]> (x)", "1.16", "of opset 19"),
    ],
)
def test_operators(text: str, release: str, told: str) -> None:
    opset = 21 if "block_size" in text else 19
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1, "somebody" : 1]>'
    given = "float[2] x, uint8[2] b, float[2] s, int64[2] i, float[2] z"
    model = parse(f"{head} g ({given}) => (float[2] y) {{ [n] {text} }}")
    assert str(oldest_release(model)) == release
    first = str(next(iter(demands(model)), ""))
    assert told in first
    if told:
        assert first.endswith(f"needs onnxruntime {release} or newer")


@pytest.mark.parametrize(
    ("dtype", "release"),
    [(17, "1.16"), (elements.INT4, "1.19"), (elements.UINT2, "1.24"), (16, "1.15")],
)
def test_element_types(dtype: int, release: str) -> None:
    proto = _relu(13, 8)
    proto.graph.input[0].type.tensor_type.elem_type = dtype
    assert str(oldest_release(import_model(proto))) == release


def test_why_not() -> None:
    model = import_model(_relu(21, 10))
    assert why_not_on(model, Release(1, 18)) is None
    told = why_not_on(model, Release(1, 16))
    assert told == (
        "IR version 10 needs onnxruntime 1.18 or newer; opset 21 needs onnxruntime 1.18 or newer"
    )


@pytest.mark.parametrize(
    ("text", "release"), [("1.16", (1, 16)), (" 1.24.4", (1, 24)), ("2.0", (2, 0))]
)
def test_releases_are_written_as_versions(text: str, release: tuple[int, int]) -> None:
    assert Release.parse(text) == release
    assert Release.parse("1.32.0.dev20261101+cpu") == NEWEST


@pytest.mark.parametrize(
    ("text", "told"),
    [("1", "no release"), ("newest", "no release"), ("", "no release"), ("1.14", "1.15 to 1.32")],
)
def test_what_is_no_release(text: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Release.parse(text)
