"""The command line as a user sees it: exit codes, one clear line for each mistake, no leftovers."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxcompress import cli
from onnxcompress.ir import io
from onnxcompress.ir.model import Constant

ASSETS = Path(str(resources.files("onnxcompress.demo_assets")))
MODEL = ASSETS / "digits.onnx"
ONE_PASS = ["--pass", "quantize-dynamic:min_elements=0"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty labelled digits."""
    with np.load(ASSETS / "digits.npz") as arrays:
        np.savez(tmp_path / "data.npz", **{key: arrays[key][:40] for key in arrays})
    return tmp_path / "data.npz"


def fails(capsys: pytest.CaptureFixture[str], arguments: list[object]) -> str:
    """Runs a command that must fail and returns its one line."""
    assert cli.run([str(each) for each in arguments]) == cli.ERROR
    lines = capsys.readouterr().err.strip().splitlines()
    message = [line for line in lines if line.startswith("onnxcompress: error: ")]
    assert len(message) == 1, lines
    assert "Traceback" not in "".join(lines)
    return message[0]


def test_search_writes_a_model_that_stock_onnxruntime_runs(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "out.onnx", tmp_path / "report.json"
    before = MODEL.read_bytes()
    arguments = ["compress", MODEL, "-o", output, "--data", data, "--max-drop", "5%"]
    code = cli.run([str(each) for each in [*arguments, "--json", report]])
    written = json.loads(report.read_text())
    assert code == (cli.DONE if written["improved"] else cli.NOTHING_BETTER)
    assert MODEL.read_bytes() == before
    chosen = [each for each in written["candidates"] if each["status"] == "chosen"]
    assert len(chosen) == 1
    assert written["metric"] == "top1"
    parts = ("training_samples", "choosing_samples", "evaluation_samples")
    assert [written["data"][part] for part in parts] == [20, 8, 12]
    assert chosen[0]["model"]["size"]["file_bytes"] == output.stat().st_size
    for candidate in written["candidates"]:
        assert candidate["reason"], candidate["name"]
    session = ort.InferenceSession(output, providers=["CPUExecutionProvider"])
    with np.load(data) as arrays:
        logits = session.run(None, {"image": arrays["image"]})[0]
        assert np.mean(logits.argmax(1) == arrays["labels"]) > 0.9
    shown = capsys.readouterr().out
    assert written["verdict"] in shown.replace("\n", " ")
    assert "static-int8" in shown


def test_recipe_runs_just_its_passes(tmp_path: Path, data: Path) -> None:
    recipe, output = tmp_path / "recipe.toml", tmp_path / "out.onnx"
    report = tmp_path / "report.json"
    recipe.write_text('[[pass]]\nname = "fold-batchnorm"\n\n[[pass]]\nname = "quantize-static"\n')
    arguments = ["compress", MODEL, "-o", output, "--data", data, "--recipe", recipe]
    code = cli.run([str(each) for each in [*arguments, "--json", report]])
    assert code in (cli.DONE, cli.NOTHING_BETTER)
    (candidate,) = json.loads(report.read_text())["candidates"]
    assert [each["name"] for each in candidate["passes"]] == ["fold-batchnorm", "quantize-static"]
    kinds = {node.op_type for node in onnx.load(output).graph.node}
    assert "BatchNormalization" not in kinds
    assert "QuantizeLinear" in kinds


@pytest.mark.parametrize("target", ["x86-vnni", "portable"])
def test_the_report_says_what_may_saturate_on_other_processors(
    target: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "out.onnx", tmp_path / "report.json"
    arguments = ["compress", MODEL, "-o", output, "--data", data, "--pass", "quantize-static"]
    arguments += ["--target", target, "--json", report]
    assert cli.run([str(each) for each in arguments]) in (cli.DONE, cli.NOTHING_BETTER)
    risks = json.loads(report.read_text())["saturation"]
    shown = " ".join(capsys.readouterr().out.split())
    if target == "portable":
        assert risks == []
        assert "int8 sums fit on x86 without VNNI too" in shown
        return
    assert risks and all(risk["worst"] > 1 for risk in risks)
    worst = max(risks, key=lambda risk: risk["worst"])
    assert f"can saturate in {len(risks)} of " in shown
    assert f"{worst['worst']:.2f} times what an int16 holds, in {worst['node']!r}" in shown


def test_a_recipe_that_changes_nothing_exits_with_3(tmp_path: Path, data: Path) -> None:
    output = tmp_path / "out.onnx"
    arguments = ["compress", MODEL, "-o", output, "--data", data, "--pass", "remove-unused"]
    assert cli.run([str(each) for each in arguments]) == cli.NOTHING_BETTER
    assert output.exists()


def test_without_data_says_how_little_it_proves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(["compress", str(MODEL), "-o", str(tmp_path / "out.onnx"), *ONE_PASS])
    assert "samples were made up" in capsys.readouterr().out.replace("\n", " ")


def test_bench_compares_with_the_first(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "bench.json"
    arguments = ["bench", MODEL, MODEL, "--data", data, "--metric", "top5", "--json", report]
    assert cli.run([str(each) for each in arguments]) == cli.DONE
    first, second = json.loads(report.read_text())["models"]
    assert first["score"]["drop"] == second["score"]["drop"] == 0
    assert first["executed_ops"] == second["executed_ops"]
    assert "speed-up" in capsys.readouterr().out


def test_inspect_lists_what_can_be_cut(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "groups.json"
    assert cli.run(["inspect", str(MODEL), "--groups", "--json", str(report)]) == cli.DONE
    told = json.loads(report.read_text())
    first = told["groups"][0]
    shown = capsys.readouterr().out
    assert f"{len(told['groups'])} dependency groups after clean-up" in shown
    sizes = {each.name: each.shape for each in onnx_weights(MODEL)}
    member = first["members"][0]
    assert first["units"] * member["slices"] in [n for size in sizes.values() for n in size]
    assert sum(each["units"] * each["macs_per_unit"] for each in told["groups"]) <= 2 * told["macs"]
    assert {each["reason"] for each in told["skipped"]} >= {
        f"{io.load(MODEL).graph.outputs[0].name!r} is an output of the model"
    }


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--groups", "--metric", "top1"], "--metric goes with --sensitivity"),
        (["--groups", "--profile"], "give --groups or --profile, not both"),
        (["--groups", "--sensitivity"], "give --sensitivity or --groups, not both"),
    ],
)
def test_inspect_ignores_no_option(
    capsys: pytest.CaptureFixture[str], options: list[str], fault: str
) -> None:
    assert fault in fails(capsys, ["inspect", MODEL, *options])


def onnx_weights(path: Path) -> list[Constant]:
    """What a model stores."""
    return io.load(path).constants()


def test_inspect_counts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "inspect.json"
    assert cli.run(["inspect", str(MODEL), "--profile", "--json", str(report)]) == cli.DONE
    found = json.loads(report.read_text())
    weights = onnx.load(MODEL).graph.initializer
    assert found["parameters"] == sum(int(np.prod(weight.dims)) for weight in weights)
    assert sum(row["macs"] for row in found["ops"]) == found["macs"] > 1_000_000
    assert {row["op"] for row in found["ops"]} >= {"Conv", "Gemm"}
    assert sum(row["share"] for row in found["times"]) == pytest.approx(1, abs=0.01)
    assert "MACs" in capsys.readouterr().out


def test_passes_lists_all_and_explains_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["passes"]) == cli.DONE
    shown = capsys.readouterr().out
    for name in ("fold-constants", "quantize-static", "quantize-dynamic", "quantize-weights"):
        assert name in shown
    assert cli.run(["passes", "quantize-static"]) == cli.DONE
    shown = capsys.readouterr().out
    assert "min-max | percentile | entropy | mse | output-error, default min-max" in shown


@pytest.mark.slow
def test_demo_ends_in_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run(["demo", "-o", str(tmp_path / "demo")])
    assert code in (cli.DONE, cli.NOTHING_BETTER)
    report = json.loads((tmp_path / "demo/report.json").read_text())
    assert report["baseline"]["score"]["value"] > 0.97
    assert all(c["model"]["score"]["drop"] < 0.02 for c in report["candidates"] if c["model"])
    assert "speed-up" in capsys.readouterr().out


def test_corrupt_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(MODEL.read_bytes()[:1000])
    message = fails(capsys, ["compress", broken, "-o", tmp_path / "out.onnx"])
    assert "broken.onnx" in message
    assert "damaged" in message
    assert not (tmp_path / "out.onnx").exists()


def test_missing_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, ["inspect", tmp_path / "none.onnx"])
    assert "No such file" in message


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        ({"picture": np.zeros((4, 1, 28, 28), np.float32)}, "image"),
        ({"image": np.zeros((4, 3, 28, 28), np.float32)}, "28"),
        ({"image": np.full((4, 1, 28, 28), np.nan, np.float32)}, "NaN"),
        ({"image": np.zeros((4, 1, 28, 28), np.uint8)}, "uint8"),
        ({"image": np.zeros((0, 1, 28, 28), np.float32)}, "no samples"),
    ],
    ids=["name", "shape", "nan", "dtype", "empty"],
)
def test_bad_data(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arrays: dict[str, np.ndarray],
    part: str,
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    out = tmp_path / "out.onnx"
    message = fails(capsys, ["compress", MODEL, "-o", out, "--data", tmp_path / "bad.npz"])
    assert part in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("quantise-static", "did you mean quantize-static"),
        ("quantize-static:observr=mse", "did you mean observer"),
        ("quantize-static:observer=median", "min-max | percentile"),
        ("quantize-dynamic:min_elements=many", "takes int"),
        ("quantize-dynamic:min_elements", "name=value"),
    ],
)
def test_unknown_pass_or_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, part: str
) -> None:
    message = fails(capsys, ["compress", MODEL, "-o", tmp_path / "out.onnx", "--pass", text])
    assert part in message


def test_static_without_data_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compress", MODEL, "-o", tmp_path / "out.onnx", "--pass", "quantize-static"]
    message = fails(capsys, arguments)
    assert "quantize-static" in message
    assert "--data" in message


def test_output_is_the_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert "input itself" in fails(capsys, ["compress", MODEL, "-o", MODEL])


def test_output_folder_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "none" / "out.onnx"
    assert "no folder" in fails(capsys, ["compress", MODEL, "-o", out])


def test_full_disk_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(io.os, "fsync", full)
    message = fails(capsys, ["compress", MODEL, "-o", tmp_path / "out.onnx", *ONE_PASS])
    assert "disk is full" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["compress"],
        ["squash", "model.onnx"],
        ["compress", "m.onnx", "-o", "o.onnx", "--max-drop", "lots"],
        ["compress", "m.onnx", "-o", "o.onnx", "--max-drop", "-1%"],
        ["compress", "m.onnx", "-o", "o.onnx", "--max-drop", "1"],
        ["compress", "m.onnx", "-o", "o.onnx", "--max-drop", "1%", "--keep", "99%"],
        ["compress", "m.onnx", "-o", "o.onnx", "--split", "50/20"],
        ["bench", "m.onnx", "--shapes", "x=3", "--shapes", "x=4"],
        ["compress", "m.onnx", "-o", "o.onnx", "--target", "vax"],
        ["bench", "m.onnx", "--threads", "0"],
    ],
)
def test_bad_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run(arguments)
    assert stop.value.code == cli.USAGE
    assert "usage:" in capsys.readouterr().err


def test_installed_command_fails_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "onnxcompress", "inspect", str(tmp_path / "none.onnx")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == cli.ERROR
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
