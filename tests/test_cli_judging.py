"""Samples, shapes and budgets as a user asks for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcompress import cli
from onnxcompress.runtime.session import Session
from tests.test_cli import MODEL, ONE_PASS, data, fails

__all__ = ["data"]


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


def compressed(
    folder: Path, data: Path | None, *options: object, passes: list[str] = ONE_PASS
) -> tuple[int, dict[str, Any]]:
    """The exit code and the report."""
    report = folder / "report.json"
    arguments = ["compress", MODEL, "-o", folder / "out.onnx", *passes, "--json", report]
    if data is not None:
        arguments += ["--data", data]
    code = cli.run([str(each) for each in [*arguments, *options]])
    return code, json.loads(report.read_text())


def test_a_recipe_that_costs_too_much_is_written_and_exits_with_3(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, written = compressed(tmp_path, data, passes=["--pass", "binarize-weights"])
    assert code == cli.NOTHING_BETTER
    assert (tmp_path / "out.onnx").exists()
    assert written["proof"] == "failed"
    assert not written["improved"]
    (candidate,) = written["candidates"]
    assert candidate["status"] == "chosen"
    assert candidate["model"]["score"]["drop"] > 0.1
    assert candidate["reason"].endswith("> 0.01 allowed")
    assert "failed on 12 samples" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "proof"),
    [
        (["--max-drop", "50%", "--confidence", "95%"], "proved"),
        (["--max-drop", "50%"], "proved"),
        (["--max-drop", "5%", "--confidence", "95%"], "held"),
        (["--max-drop", "5%"], "held"),
    ],
)
def test_with_a_confidence_the_result_must_be_proved(
    options: list[str],
    proof: str,
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No answer of 12 changes, which says that less than 27 % of all do."""
    code, written = compressed(tmp_path, data, "--goal", "size", *options)
    assert written["proof"] == proof
    assert written["confidence"] == 0.95
    model = written["candidates"][0]["model"]
    (output,) = model["score"]["outputs"]
    assert output["drop"] == 0
    assert 0.2 < output["drop_interval"][1] < 0.5
    is_better = proof == "proved" or "--confidence" not in options
    assert code == (cli.DONE if is_better else cli.NOTHING_BETTER)
    assert written["improved"] is is_better
    told = " ".join(capsys.readouterr().err.split())
    warning = "warning: 12 samples to judge on cannot prove a drop of at most 0.05: 72 could"
    assert (warning in told) is ("5%" in options)


def test_the_confidence_sets_how_wide_intervals_are(tmp_path: Path, data: Path) -> None:
    widths = []
    for confidence in ("60%", "0.999"):
        _, written = compressed(tmp_path, data, "--confidence", confidence)
        low, high = written["candidates"][0]["model"]["score"]["drop_interval"]
        widths.append(high - low)
    assert widths[0] < 0.6 * widths[1]


@pytest.mark.parametrize(("keep", "allowed"), [("99%", 0.01), ("0.75", 0.25)])
def test_a_share_to_keep(keep: str, allowed: float, tmp_path: Path, data: Path) -> None:
    _, written = compressed(tmp_path, data, "--keep", keep)
    assert written["keep"] == pytest.approx(1 - allowed)
    (output,) = written["baseline"]["score"]["outputs"]
    assert written["max_drop"] == pytest.approx(allowed * output["reference_value"])


@pytest.mark.parametrize(
    ("options", "kind", "metric", "labelled"),
    [
        ([], "choice", "top1", True),
        (["--judge", "logits"], "choice", "top1", True),
        (["--judge", "logits=numbers"], "numbers", "r2", False),
        (["--judge", "logits=sqnr"], "choice", "sqnr", False),
        (["--judge", "logits=top3"], "choice", "top3", True),
        (["--metric", "agreement"], "choice", "agreement", False),
    ],
)
def test_how_an_output_is_judged(
    options: list[str], kind: str, metric: str, labelled: bool, tmp_path: Path, data: Path
) -> None:
    _, written = compressed(tmp_path, data, *options)
    assert written["metric"] == metric
    for model in (written["baseline"], written["candidates"][0]["model"]):
        (output,) = model["score"]["outputs"]
        assert (output["name"], output["kind"], output["metric"]) == ("logits", kind, metric)
        assert output["labelled"] is labelled
        assert model["score"]["drop"] == output["drop"] is not None


def test_bench_tells_the_drop_of_each_output(tmp_path: Path, data: Path) -> None:
    compressed(tmp_path, data)
    report = tmp_path / "bench.json"
    arguments = ["bench", MODEL, tmp_path / "out.onnx", "--data", data, "--json", report]
    arguments += ["--judge", "logits=r2", "--confidence", "90%"]
    assert cli.run([str(each) for each in arguments]) == cli.DONE
    first, second = json.loads(report.read_text())["models"]
    assert first["score"]["drop"] == 0
    (output,) = second["score"]["outputs"]
    assert {"name": "logits", "kind": "choice", "metric": "r2"}.items() <= output.items()
    with np.load(data) as arrays:
        feed = {"image": arrays["image"]}
    theirs = Session(MODEL).run(feed)["logits"].astype(np.float64)
    ours = np.concatenate(
        [
            Session(tmp_path / "out.onnx").run({"image": image[None]})["logits"]
            for image in feed["image"]
        ]
    )
    lost = np.square(ours - theirs).sum(axis=0)
    lost = lost / np.square(theirs - theirs.mean(axis=0)).sum(axis=0)
    assert output["drop"] == second["score"]["drop"] == pytest.approx(lost.max(), rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--judge", "scores"], "the model has no output 'scores'; its outputs are 'logits'"),
        (["--judge", "logits=best"], "cannot be judged by 'best', which is no kind and no metric"),
        (["--judge", "logits=detection-f1"], "cannot be judged by a metric of boxes"),
        (["--metric", "map"], "cannot be judged by a metric of boxes"),
    ],
)
def test_what_cannot_be_judged(
    options: list[str], message: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.onnx"
    arguments: list[object] = ["compress", MODEL, "-o", output, "--data", data, *options]
    assert message in fails(capsys, arguments)
    assert not output.exists()


def test_made_up_samples_prove_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, written = compressed(tmp_path, None, "--confidence", "95%")
    assert written["proof"] is None
    assert written["metric"] == "sqnr"
    assert written["max_drop"] == 0.1
    shown = " ".join(capsys.readouterr().out.split())
    assert "accuracy not judged: there are no data" in shown
    assert "held on" not in shown and "proved on" not in shown
