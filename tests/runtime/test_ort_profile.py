import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcompress.errors import SessionError
from onnxcompress.runtime.ort_profile import executed_ops, profile, report_of, surviving_qdq
from tests.helpers import parse_model

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'


def _bytes(text: str) -> bytes:
    return parse_model(f"{HEAD} {text}").SerializeToString()


BRANCH = _bytes("""g (float[N, 2] x, bool c) => (float[N, 2] y)
  <float[2, 2] w = {1, 2, 3, 4}> {
    [product] h = MatMul(x, w)
    [choice] y = If (c) <
      then_branch = a () => (float[N, 2] p) { [minus] p = Neg(h) },
      else_branch = b () => (float[N, 2] q) { [power] q = Exp(h) }>
  }""")


@pytest.fixture
def temp_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _node(name: str, op: str, start: int, took: int) -> dict[str, Any]:
    kernel = {"name": f"{name}_kernel_time", "cat": "Node", "args": {"op_name": op}}
    return {**kernel, "ts": start, "dur": took}


def _run(start: int, took: int) -> dict[str, Any]:
    return {"name": "model_run", "cat": "Session", "ts": start, "dur": took, "args": {}}


def test_medians_over_runs_after_warm_up() -> None:
    events: list[dict[str, Any]] = [{"name": "session_initialization", "cat": "Session"}]
    for number, (mul, add) in enumerate([(999, 999), (10, 1), (30, 2), (20, 3)]):
        start = number * 10_000
        events += [
            _run(start, 5_000),
            _node("m", "MatMul", start + 1, mul),
            _node("a1", "Add", start + 2_000, add),
            _node("a2", "Add", start + 3_000, add),
        ]
    report = report_of(events, skip=1)
    assert report.runs == 3
    assert [(row.op_type, row.count, row.microseconds) for row in report.rows] == [
        ("MatMul", 1, 20.0),
        ("Add", 2, 4.0),
    ]
    assert [row.share for row in report.rows] == pytest.approx([20 / 24, 4 / 24])
    assert report.microseconds == 24.0
    assert [(n.name, n.microseconds) for n in report.nodes] == [("m", 20), ("a1", 2), ("a2", 2)]


def test_an_outer_node_counts_only_what_its_inner_nodes_do_not() -> None:
    events = [
        _run(0, 1000),
        _node("loop", "Loop", 10, 100),
        _node("in", "Neg", 20, 30),
        _node("in", "Neg", 60, 40),
        _node("after", "Exp", 110, 5),
    ]
    times = {row.op_type: (row.count, row.microseconds) for row in report_of(events).rows}
    assert times == {"Loop": (1, 30.0), "Neg": (2, 70.0), "Exp": (1, 5.0)}


def test_a_run_too_quick_to_time_has_no_shares() -> None:
    assert report_of([_run(0, 0), _node("n", "Neg", 0, 0)]).rows[0].share == 0.0


def test_a_real_profile(temp_root: Path) -> None:
    feed = {"x": np.ones((3, 2), np.float32), "c": np.array(True)}
    report = profile(BRANCH, feed, runs=3, warmup=1)
    assert report.runs == 3
    assert {row.op_type: row.count for row in report.rows} == {"MatMul": 1, "If": 1, "Neg": 1}
    assert {"product", "choice", "minus"} == {node.name for node in report.nodes}
    assert sum(row.share for row in report.rows) == pytest.approx(1.0) or report.microseconds == 0
    assert list(temp_root.iterdir()) == []


def test_temporary_files_go_after_a_failure_too(temp_root: Path) -> None:
    with pytest.raises(SessionError):
        profile(BRANCH, {"x": np.ones((3, 2), np.float32)})
    assert list(temp_root.iterdir()) == []


def test_ops_of_inner_graphs_are_counted(temp_root: Path) -> None:
    assert executed_ops(BRANCH) == {"MatMul": 1, "If": 1, "Neg": 1, "Exp": 1}
    assert list(temp_root.iterdir()) == []


def test_the_qdq_left_by_the_optimizer_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    # A Neg has no integer kernel, so its DequantizeLinear and QuantizeLinear stay.
    source = _bytes("""g (uint8[4] x) => (uint8[4] y)
      <float s = {0.5}, uint8 z = {128}> {
        [in_dq] a = DequantizeLinear(x, s, z)
        b = Neg(a)
        y = QuantizeLinear(b, s, z)
      }""")
    assert surviving_qdq(source) == ("in_dq", "y")
    assert capfd.readouterr().err == ""


def test_fused_qdq_are_not_named() -> None:
    source = _bytes("""g (uint8[4] x, uint8[4] w) => (uint8[4] y)
      <float s = {0.5}, uint8 z = {128}> {
        a = DequantizeLinear(x, s, z)
        b = DequantizeLinear(w, s, z)
        c = Add(a, b)
        y = QuantizeLinear(c, s, z)
      }""")
    assert surviving_qdq(source) == ()
    assert executed_ops(source) == {"QLinearAdd": 1}
