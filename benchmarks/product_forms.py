"""Which form of a stored weight a matrix product runs the fastest with, by its rows.

``python -m benchmarks.product_forms`` times MatMul with a float weight against the same weight
stored as integers: read through DequantizeLinear, which onnxruntime fuses into MatMulNBits with
activations of 8 bits; as MatMulNBits in float; unpacked when the session loads. Then what ``form =
auto`` takes, and what onnxruntime does where it does not fuse. One thread, taking turns.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.page import page_parser, write_page
from benchmarks.results import command_line, environment_line
from onnxcompress.ir import io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.pass_manager import PassManager
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session

ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

SHAPES: Final = ((128, 512), (384, 384), (384, 1536), (576, 1536), (1536, 384), (3072, 192))
"""Features and outputs: of MiniLM-L6, SmolLM2-135M and around them."""

MOST_PRODUCTS: Final = 160_000_000
"""Cases of more multiply-accumulates are left out: they outlast the turn of a process."""

_BLOCKS = "granularity=per-block"

FORMS: Final[Mapping[str, str | None]] = {
    "float": None,
    "dynamic int8": "quantize-dynamic",
    "8, DequantizeLinear": "quantize-weights",
    "8, MatMulNBits": f"quantize-weights:{_BLOCKS},form=matmul-nbits",
    "4, DequantizeLinear": f"quantize-weights:bits=4,{_BLOCKS}",
    "4, MatMulNBits": f"quantize-weights:bits=4,{_BLOCKS},form=matmul-nbits",
    "4, at load": f"quantize-weights:bits=4,{_BLOCKS},form=at-load",
    "4, auto": f"quantize-weights:bits=4,{_BLOCKS},form=auto",
    "2, DequantizeLinear": f"quantize-weights:bits=2,{_BLOCKS}",
    "2, auto": f"quantize-weights:bits=2,{_BLOCKS},form=auto",
}
"""What is compared, as `--pass` takes it, by the name of its column."""

BUDGET_SECONDS = 3.0
"""Given to each row of a table, for `LEAST_ROUNDS` at least."""

LEAST_ROUNDS = 15


@dataclass(frozen=True)
class Case:
    """A node that onnxruntime does not fuse a DequantizeLinear with.

    Attributes:
        op: of the node.
        weight: its shape.
        sample: the input's shape.
        attributes: of the node.
        nodes: that read the one weight.
    """

    op: str
    weight: tuple[int, ...]
    sample: tuple[int, ...]
    attributes: Mapping[str, Any]
    nodes: int = 1


CASES: Final[Mapping[str, Case]] = {
    "two MatMul of one weight": Case("MatMul", (384, 512), (16, 384), {}, 2),
    "MatMul, a weight for each sample": Case("MatMul", (2, 384, 512), (2, 16, 384), {}),
    "Gemm, transB": Case("Gemm", (512, 384), (16, 384), {"transB": 1}),
    "Gemm, alpha = 0.5": Case("Gemm", (384, 512), (16, 384), {"alpha": 0.5}),
    "Conv 1x1": Case("Conv", (96, 64, 1, 1), (1, 64, 28, 28), {}),
    "Conv 3x3": Case("Conv", (64, 64, 3, 3), (1, 64, 14, 14), {}),
    "Conv 5x5, depthwise": Case("Conv", (192, 1, 5, 5), (1, 192, 14, 14), {"group": 192}),
}

CASE_FORMS: Final[Mapping[str, str | None]] = {
    "float": None,
    "8, DequantizeLinear": "quantize-weights",
    "8, auto": "quantize-weights:form=auto",
    "4, DequantizeLinear": f"quantize-weights:bits=4,{_BLOCKS}",
    "4, auto": f"quantize-weights:bits=4,{_BLOCKS},form=auto",
}


def session_of(case: Case, form: str | None) -> Session:
    """A model of the case's nodes, its shapes fixed, after one pass."""
    values = np.random.default_rng(0).standard_normal(case.weight).astype(np.float32)
    names = [f"y{index}" for index in range(case.nodes)]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(case.op, ["x", "w"], [name], **case.attributes) for name in names],
        "g",
        [info("x", TensorProto.FLOAT, case.sample)],
        [info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(values / np.float32(20), "w")],
    )
    opset = helper.make_opsetid("", 21)
    model = import_model(helper.make_model(graph, opset_imports=[opset], ir_version=10))
    if form is not None:
        PassManager([parse_pass(form)]).run(model, RuntimeContext())
    return Session(io.to_bytes(model))


def fastest_ms(sessions: Sequence[Session], feed: Mapping[str, np.ndarray]) -> list[float]:
    """The shortest run of each session, in milliseconds; they take turns in random order.

    A product takes less time than a processor gives to one process, so the shortest run is one that
    nothing else on the machine got between.
    """
    rng = np.random.default_rng(0)
    best = [math.inf] * len(sessions)
    began = time.perf_counter()
    rounds = 0
    while rounds < LEAST_ROUNDS or time.perf_counter() - began < BUDGET_SECONDS:
        for index in rng.permutation(len(sessions)):
            sessions[index].run(feed)
            start = time.perf_counter_ns()
            sessions[index].run(feed)
            best[index] = min(best[index], (time.perf_counter_ns() - start) / 1e6)
        rounds += 1
    return best


def row_of(case: Case, forms: Mapping[str, str | None]) -> str:
    """The float model's time, and how many times as fast each other form is, as cells."""
    sessions = [session_of(case, form) for form in forms.values()]
    sample = np.random.default_rng(1).standard_normal(case.sample).astype(np.float32)
    first, *others = fastest_ms(sessions, {"x": sample})
    return " | ".join([f"{first:.3f}", *(f"{first / each:.2f}" for each in others)])


def table(corner: str, cases: Mapping[str, Case], forms: Mapping[str, str | None]) -> Iterator[str]:
    """The lines of a table with a row for each case."""
    yield f"| {corner} | float, ms | {' | '.join(list(forms)[1:])} |"
    yield "|---|" + "---:|" * len(forms)
    for name, case in cases.items():
        line = f"| {name} | {row_of(case, forms)} |"
        print(line, file=sys.stderr, flush=True)
        yield line


def markdown(command: str) -> str:
    """The comparison as a page."""
    lines = ["# Forms of stored weights", "", environment_line(), f"Made by `{command}`.", ""]
    lines += [
        "How many times as fast as the float weight, by the shortest runs; 8 bits per channel, or",
        "per block for MatMulNBits, 4 and 2 bits per block of 32. `auto` knows the rows.",
        "",
    ]
    for features, outputs in SHAPES:
        lines += [f"## [rows, {features}] x [{features}, {outputs}]", ""]
        weight = (features, outputs)
        cases = {
            str(rows): Case("MatMul", weight, (rows, features), {})
            for rows in ROWS
            if rows * features * outputs <= MOST_PRODUCTS
        }
        lines += [*table("rows", cases, FORMS), ""]
    lines += ["## Where onnxruntime does not fuse DequantizeLinear", ""]
    lines += table("", CASES, CASE_FORMS)
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page."""
    parser = page_parser("product_forms", __doc__)
    options = parser.parse_args(arguments)
    return write_page(options.output, lambda: markdown(command_line("product_forms", arguments)))


if __name__ == "__main__":
    sys.exit(main())
