"""What onnxruntime really executes: time by operator, and what its optimizer left unfused."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from onnxcompress.errors import SessionError
from onnxcompress.leftovers import working_folder
from onnxcompress.runtime.session import Session, SessionSettings

_KERNEL: Final = "_kernel_time"
_QDQ: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True, kw_only=True)
class OpTime:
    """Kernel time of one op type, as onnxruntime names it after its own fusions.

    Attributes:
        op_type: such as `MatMul` or `DynamicQuantizeMatMul`.
        count: kernels started in one run.
        microseconds: time in one run, the median over the runs.
        share: of the sum over all rows, 0 to 1.
    """

    op_type: str
    count: int
    microseconds: float
    share: float


@dataclass(frozen=True, kw_only=True)
class NodeTime:
    """Kernel time of one node; a node in a loop body may start its kernel many times in one run."""

    name: str
    op_type: str
    count: int
    microseconds: float


@dataclass(frozen=True, kw_only=True)
class ProfileReport:
    """Time by op type and by node, the slowest first; time spent between kernels is in neither."""

    rows: tuple[OpTime, ...]
    nodes: tuple[NodeTime, ...]
    runs: int

    @property
    def microseconds(self) -> float:
        """Kernel time of one run."""
        return sum(row.microseconds for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class _Kernel:
    name: str
    op_type: str
    start: int
    microseconds: int


def profile(
    source: Path | bytes,
    feed: Mapping[str, np.ndarray],
    *,
    runs: int = 5,
    warmup: int = 2,
    settings: SessionSettings | None = None,
) -> ProfileReport:
    """Runs a model under onnxruntime's profiler.

    Args:
        source: the model.
        feed: an array for every input.
        runs: how many runs to take the medians over.
        warmup: runs before those, not counted.
        settings: how to run it; `profile_to` is set here.

    Raises:
        SessionError: onnxruntime cannot load or run the model.
    """
    with working_folder() as folder:
        chosen = replace(settings or SessionSettings(), profile_to=Path(folder, "profile"))
        session = Session(source, chosen)
        try:
            for _ in range(warmup + runs):
                session.run(feed)
        finally:
            path = session.end_profiling()
        events = json.loads(path.read_text(encoding="utf-8"))
    return report_of(events, skip=warmup)


def report_of(events: Sequence[Mapping[str, Any]], *, skip: int = 0) -> ProfileReport:
    """Sums onnxruntime's profile, leaving out the first `skip` runs.

    A node with a subgraph (If, Loop, Scan) counts only what its inner nodes do not.
    """
    windows = sorted(
        (event["ts"], event["ts"] + event["dur"])
        for event in events
        if event.get("cat") == "Session" and event["name"] == "model_run"
    )[skip:]
    kernels = sorted(_kernels(events), key=lambda kernel: (kernel.start, -kernel.microseconds))
    by_op: dict[str, list[list[int]]] = defaultdict(lambda: [[] for _ in windows])
    by_node: dict[tuple[str, str], list[list[int]]] = defaultdict(lambda: [[] for _ in windows])
    for run, (start, end) in enumerate(windows):
        inside = [kernel for kernel in kernels if start <= kernel.start <= end]
        for kernel, own in zip(inside, _own_times(inside), strict=True):
            by_op[kernel.op_type][run].append(own)
            by_node[kernel.name, kernel.op_type][run].append(own)
    op_times = {op: _median_sum(times) for op, times in by_op.items()}
    total = sum(op_times.values())
    rows = [
        OpTime(
            op_type=op,
            count=_median_count(by_op[op]),
            microseconds=time,
            share=time / total if total else 0.0,
        )
        for op, time in op_times.items()
    ]
    nodes = [
        NodeTime(name=name, op_type=op, count=_median_count(times), microseconds=_median_sum(times))
        for (name, op), times in by_node.items()
    ]
    return ProfileReport(
        rows=tuple(sorted(rows, key=lambda row: (-row.microseconds, row.op_type))),
        nodes=tuple(sorted(nodes, key=lambda node: (-node.microseconds, node.name))),
        runs=len(windows),
    )


def surviving_qdq(source: Path | bytes) -> tuple[str, ...]:
    """Names of the QuantizeLinear and DequantizeLinear nodes that onnxruntime did not fuse away.

    A node without a name is told by the name of its first output. Inner graphs are searched too.

    Raises:
        SessionError: onnxruntime cannot load the model.
    """
    return tuple(node.name or node.output[0] for node in _optimized(source) if node.op_type in _QDQ)


def executed_ops(source: Path | bytes) -> dict[str, int]:
    """Counts op types in the graph that onnxruntime runs, inner graphs included.

    Raises:
        SessionError: onnxruntime cannot load the model.
    """
    return dict(Counter(node.op_type for node in _optimized(source)))


def _optimized(source: Path | bytes) -> list[onnx.NodeProto]:
    with working_folder() as folder:
        path = Path(folder, "optimized.onnx")
        settings = SessionSettings(save_optimized_to=path)
        try:
            Session(source, settings)
        except SessionError:  # onnxruntime 1.18 can put no text beside a graph
            Session(source, replace(settings, weights_beside=False))
        model = onnx.load(path, load_external_data=False)
    return list(_nodes(model.graph))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)
            for inner in attribute.graphs:
                yield from _nodes(inner)


def _kernels(events: Iterable[Mapping[str, Any]]) -> Iterator[_Kernel]:
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            yield _Kernel(
                name=event["name"].removesuffix(_KERNEL),
                op_type=event["args"]["op_name"],
                start=event["ts"],
                microseconds=event["dur"],
            )


def _own_times(kernels: Sequence[_Kernel]) -> list[int]:
    """Each kernel's time less that of those started inside it; sorted by start, longest first."""
    own = [kernel.microseconds for kernel in kernels]
    open_at: list[int] = []
    for index, kernel in enumerate(kernels):
        while open_at and not _contains(kernels[open_at[-1]], kernel):
            open_at.pop()
        if open_at:
            own[open_at[-1]] = max(own[open_at[-1]] - kernel.microseconds, 0)
        open_at.append(index)
    return own


def _contains(outer: _Kernel, inner: _Kernel) -> bool:
    outer_end = outer.start + outer.microseconds
    return inner.start < outer_end and inner.start + inner.microseconds <= outer_end


def _median_sum(times: Sequence[Sequence[int]]) -> float:
    return float(statistics.median(sum(run) for run in times))


def _median_count(times: Sequence[Sequence[int]]) -> int:
    return int(statistics.median(len(run) for run in times))
