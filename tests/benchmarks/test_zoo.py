"""The zoo's page and steps, on made-up rows and a small graph; all of it as a campaign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.zoo import __main__ as command
from benchmarks.zoo.outcome import Left, Outcome, Reason, Row, load, save
from benchmarks.zoo.page import page
from benchmarks.zoo.steps import CLEANED, INSPECT, NAMES, run_step

REASONS = (Reason(node="gate", reason="its 8 units stay", count=3),)
LEFT = Left(node="down", op="MatMul", share=0.6, reason="8 units | of 'down' stay")


@pytest.mark.parametrize(
    ("outcome", "faults"),
    [
        (Outcome(step="prune", failure="PassError: no"), ["exit 1: PassError: no"]),
        (Outcome(step="dynamic-int8"), ["nothing done and no reason given"]),
        (Outcome(step="dynamic-int8", reasons=REASONS), []),
        (Outcome(step=CLEANED), []),
        (
            Outcome(step="prune", changed=True, bytes=103_000, original_bytes=100_000),
            ["the file grows to 103%"],
        ),
        (Outcome(step="prune", changed=True, bytes=101_000, original_bytes=100_000), []),
        (Outcome(step=CLEANED, rolled_back=("fold-pad: no",)), ["rolled back: fold-pad: no"]),
        (
            Outcome(step="static-int8", changed=True, unexplained=("a", "b")),
            ["no reason given for 'a' and 1 more"],
        ),
        (Outcome(step="prune", changed=True, macs=0.77, left=LEFT), []),
        (
            Outcome(step="prune", changed=True, macs=0.77),
            ["too few MACs cut, and no reason given"],
        ),
        (Outcome(step="prune", changed=True, problem="'y' is not finite"), ["'y' is not finite"]),
    ],
)
def test_what_is_a_fault(outcome: Outcome, faults: list[str]) -> None:
    assert list(outcome.faults()) == faults


def test_page_tells_faults_and_what_pruning_does_not_reach(tmp_path: Path) -> None:
    sizes = {"changed": True, "original_bytes": 2_000_000}
    rows = [
        Row(
            name="a.traced",
            family="decoders",
            outcomes=(
                Outcome(step=INSPECT, bytes=2_000_000, original_bytes=2_000_000),
                Outcome(step="dynamic-int8", bytes=500_000, sqnr=21.4, **sizes),
                Outcome(step="static-int8", failure="PassError: no"),
                Outcome(step="prune", bytes=1_800_000, macs=0.9, left=LEFT, **sizes),
            ),
        ),
        Row(name="a.dynamo", family="decoders", failure="ValueError: cannot view"),
    ]
    save(tmp_path / "zoo.json", rows)
    assert list(load(tmp_path / "zoo.json").values()) == rows
    lines = page(rows, "Measured here.").splitlines()
    assert "| a.traced | 2.0 |  | 25%, 21 dB | fails |  | 10% |" in lines
    assert "- a.traced, static-int8: exit 1: PassError: no" in lines
    assert "| a.traced | 10% | `down` (MatMul) | 60% | 8 units \\| of 'down' stay |" in lines
    assert "- a.dynamo: ValueError: cannot view" in lines


def _write(folder: Path) -> tuple[Path, Path]:
    """Two products around a Relu, 64 -> 128 -> 64, and samples of it."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 8, name)
        for name, shape in (("w", (64, 128)), ("v", (128, 64)))
    ]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], "widen"),
            helper.make_node("Relu", ["h"], ["r"], "relu"),
            helper.make_node("MatMul", ["r", "v"], ["y"], "narrow"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64])],
        weights,
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "model.onnx")
    np.savez(folder / "data.npz", x=rng.standard_normal((16, 64)).astype(np.float32))
    return folder / "model.onnx", folder / "data.npz"


def test_steps_measure_bytes_outputs_and_macs(tmp_path: Path) -> None:
    found = {name: run_step(name, *_write(tmp_path), tmp_path) for name in NAMES}
    assert not [fault for each in found.values() for fault in each.faults()]
    assert found[CLEANED].sqnr is None  # equal
    assert found["dynamic-int8"].changed
    assert found["dynamic-int8"].ratio == pytest.approx(0.27, abs=0.03)
    assert found["weights-int4"].ratio == pytest.approx(0.17, abs=0.03)
    assert (found["dynamic-int8"].sqnr or 0) > 30
    assert found["prune"].macs == pytest.approx(1 - 40 / 128)  # 38.4 channels, in steps of 8
    assert found["prune"].left is None


@pytest.mark.campaign
def test_no_architecture_shows_a_fault(tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "zoo.json"), "--page", str(tmp_path / "zoo.md")]
    assert command.main(["run", *files]) == 0, (tmp_path / "zoo.md").read_text(encoding="utf-8")
