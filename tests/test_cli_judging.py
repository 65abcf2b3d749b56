"""Samples, shapes and budgets as a user asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxcompress import cli
from onnxcompress.search import judge
from tests.test_cli import MODEL, ONE_PASS, data, fails

__all__ = ["data"]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "LATENCY_SECONDS", 0.1)


def test_a_split_by_groups_and_a_share_to_keep(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(data) as arrays:
        grouped = {**arrays, "writer": np.arange(40) % 10}
    np.savez(tmp_path / "grouped.npz", **grouped)
    report = tmp_path / "report.json"
    arguments = ["compress", MODEL, "-o", tmp_path / "out.onnx", *ONE_PASS, "--json", report]
    arguments += ["--data", tmp_path / "grouped.npz", "--group-by", "writer"]
    arguments += ["--split", "40/20/40", "--keep", "90%"]
    assert cli.run([str(each) for each in arguments]) in (cli.DONE, cli.NOTHING_BETTER)
    written = json.loads(report.read_text())
    parts = ("training_samples", "choosing_samples", "evaluation_samples", "groups")
    assert [written["data"][part] for part in parts] == [16, 8, 16, 10]
    reference = written["baseline"]["score"]["value"]
    assert written["max_drop"] == pytest.approx(0.1 * reference)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Judged on 16 labelled samples" in shown
    assert "chosen by 8; fitted to 16, calibrated on 16 of these" in shown


def test_what_is_not_used_is_named(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(data) as arrays:
        others = {"image": arrays["image"], "y": arrays["labels"], "ids": np.arange(40)}
    np.savez(tmp_path / "others.npz", **others)
    report = tmp_path / "bench.json"
    arguments = ["bench", MODEL, "--data", tmp_path / "others.npz", "--json", report]
    assert cli.run([str(each) for each in arguments]) == cli.DONE
    shown = " ".join(capsys.readouterr().out.split())
    assert "note: 'y' in the data was taken as labels" in shown
    assert "note: 'ids' in the data is no input and was not used" in shown
    written = json.loads(report.read_text())
    assert written["metric"] == "top1"
    assert written["data"]["unused"] == ["ids"]
    assert written["data"]["labels_from"] == "y"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shapes", "picture=1x1x28x28"], "a shape was given for 'picture'"),
        (["--shapes", "image=1x3x28x28"], "axis 1 is 1 in the model"),
        (["--split", "50/20/30"], "--split says how to split the data, and none was given"),
        (["--group-by", "writer"], "--group-by says how to split the data"),
    ],
)
def test_mistakes(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.onnx"
    assert message in fails(capsys, ["compress", MODEL, "-o", output, *options])
    assert not output.exists()


def test_shapes_beside_data(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", data, "--shapes", "image=1x1x28x28"]
    for command in (["compress", MODEL, "-o", tmp_path / "out.onnx"], ["bench", MODEL]):
        assert "the data have their own" in fails(capsys, [*command, *options])


def test_inspect_splits_for_sensitivity_only(capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--split", "50/20/30"), ("--group-by", "writer")):
        message = fails(capsys, ["inspect", MODEL, option, value])
        assert f"{option} goes with --sensitivity" in message
