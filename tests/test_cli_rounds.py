"""Pruning in rounds, as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnxcompress import cli
from tests.test_cli import MODEL, data, fails

__all__ = ["data"]

PASSES = ["--pass", "prune-weights:sparsity=0.9", "--pass", "store-sparse"]


def test_rounds_and_resume(
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, report = tmp_path / "out.onnx", tmp_path / "report.json"
    arguments = ["compress", MODEL, "-o", output, "--data", data, *PASSES, "--goal", "size"]
    arguments += ["--rounds", "2", "--schedule", "cubic", "--max-drop", "100%", "--json", report]
    arguments += ["--checkpoints", tmp_path / "rounds"]
    assert cli.run([str(each) for each in arguments]) == cli.DONE
    written, first = json.loads(report.read_text()), output.read_bytes()
    assert [each["share"] for each in written["rounds"]] == [0.875, 1.0]
    assert written["kept_round"] == 2
    assert written["rounds"][1]["zeros"] == pytest.approx(0.9, abs=1e-3)
    parts = ("training_samples", "validation_samples", "evaluation_samples")
    assert sum(written["data"][part] for part in parts) == 40
    assert "chosen by 8" in capsys.readouterr().out

    assert "resume it" in fails(capsys, arguments)
    assert cli.run([str(each) for each in [*arguments, "--resume"]]) == cli.DONE
    assert output.read_bytes() == first
    again = json.loads(report.read_text())
    assert again["rounds"] == written["rounds"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "2"], "none was given"),
        (["--rounds", "2", "--pass", "quantize-dynamic"], "this one has quantize-dynamic"),
        (["--rounds", "2", "--resume", *PASSES], "name the folder of the checkpoints"),
        (["--rounds", "2", "--schedule", "one-shot", *PASSES], "use linear or cubic"),
        (["--schedule", "cubic", *PASSES], "--schedule goes with --rounds"),
        (["--checkpoints", "x", *PASSES], "--checkpoints goes with --rounds"),
        (["--resume", *PASSES], "--resume goes with --rounds"),
    ],
)
def test_mistakes(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.onnx"
    assert message in fails(capsys, ["compress", MODEL, "-o", output, *options])
    assert not output.exists()
