"""`inspect --sensitivity` and `assign` as a user sees them."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxcompress import cli
from onnxcompress.recipe import Recipe

ASSETS = Path(str(resources.files("onnxcompress.demo_assets")))
MODEL = ASSETS / "digits.onnx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty labelled digits."""
    with np.load(ASSETS / "digits.npz") as arrays:
        np.savez(tmp_path / "data.npz", **{key: arrays[key][:40] for key in arrays})
    return tmp_path / "data.npz"


def run(*arguments: object) -> int:
    return cli.run([str(each) for each in arguments])


def test_from_sensitivity_to_a_mixed_model(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, recipe, output = tmp_path / "s.json", tmp_path / "mixed.toml", tmp_path / "out.onnx"
    arguments = ["inspect", MODEL, "--sensitivity", "--data", data, "--bits", "8,4"]
    assert run(*arguments, "--metric", "top1", "--json", table) == cli.DONE
    shown = capsys.readouterr().out
    for part in ("bits=8", "bits=4", "drop of top1", "all of them", "5/5.0/5.0.0/Conv (Conv)"):
        assert part in shown
    assert "432 elements < min_elements=1024" in shown
    report = json.loads(table.read_text())
    assert [each["name"] for each in report["precisions"]] == ["bits=8", "bits=4"]
    worst = [max(damage["noise"] for damage in unit["damage"]) for unit in report["units"]]
    assert worst == sorted(worst, reverse=True)
    assert {skip["node"] for skip in report["skipped"]} == {"/0/0.0/Conv", "/10/Gemm"}

    assert run("assign", table, "--size", "20%", "-o", recipe) == cli.DONE
    shown = capsys.readouterr().out
    assert "expected:" in shown
    passes = Recipe.load(recipe).passes
    assert [each.name for each in passes] == ["fold-batchnorm", "quantize-weights"]
    assert run("compress", MODEL, "-o", output, "--data", data, "--recipe", recipe) in (
        cli.DONE,
        cli.NOTHING_BETTER,
    )
    assert output.stat().st_size <= 0.2 * MODEL.stat().st_size
    kinds = {onnx.TensorProto.INT4, onnx.TensorProto.INT8}
    assert kinds <= {tensor.data_type for tensor in onnx.load(output).graph.initializer}


def test_static_int8_leaves_the_worst_node_float(tmp_path: Path, data: Path) -> None:
    table, recipe = tmp_path / "s.json", tmp_path / "recipe.toml"
    arguments = ["inspect", MODEL, "--sensitivity", "--data", data, "--alone", "--samples", 8]
    assert run(*arguments, "--json", table) == cli.DONE
    report = json.loads(table.read_text())
    assert [each["name"] for each in report["precisions"]] == ["quantize-static"]
    assert all(unit["damage"][0]["sqnr_without"] is None for unit in report["units"])
    wanted = report["units"][0]["damage"][0]["sqnr"] + 1
    assert run("assign", table, "--min-sqnr", wanted, "-o", recipe) == cli.DONE
    pass_ = Recipe.load(recipe).passes[-1]
    left = [name for override in pass_.overrides for name in override.nodes]
    assert pass_.name == "quantize-static"
    assert report["units"][0]["nodes"][0] in left


def test_assign_tells_what_it_cannot_read_or_reach(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, recipe = tmp_path / "s.json", tmp_path / "recipe.toml"
    assert run("inspect", MODEL, "--json", table) == cli.DONE
    assert run("assign", table, "--size", "20%", "-o", recipe) == cli.ERROR
    message = capsys.readouterr().err
    assert "s.json: not a sensitivity report" in message
    assert "inspect MODEL --sensitivity" in message
    arguments = ["inspect", MODEL, "--sensitivity", "--bits", 4, "--alone", "--json", table]
    assert run(*arguments) == cli.DONE
    assert run("assign", table, "--size", "3%", "-o", recipe) == cli.ERROR
    assert "cannot be reached" in capsys.readouterr().err
    assert not recipe.exists()
    assert run("assign", table, "--size", "50%", "-o", tmp_path / "none" / "r.toml") == cli.ERROR
    assert "cannot be written" in capsys.readouterr().err
    assert data.exists()


def test_bits_and_passes_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bits", "4", "--pass", "quantize-weights"]
    assert run("inspect", MODEL, "--sensitivity", *arguments) == cli.ERROR
    assert "give one of --bits and --pass" in capsys.readouterr().err


def test_a_recipe_prepares_and_asks_about_its_last_pass(tmp_path: Path, data: Path) -> None:
    table, recipe = tmp_path / "s.json", tmp_path / "recipe.toml"
    names = ("fold-batchnorm", "round-adaptively", "quantize-static")
    recipe.write_text("".join(f'[[pass]]\nname = "{name}"\n' for name in names))
    arguments = ["inspect", MODEL, "--sensitivity", "--data", data, "--recipe", recipe, "--alone"]
    assert run(*arguments, "--json", table) == cli.DONE
    report = json.loads(table.read_text())
    assert [each["name"] for each in report["precisions"]] == ["quantize-static"]
    before = Recipe.parse(report["clean_up"]).passes
    assert [each.name for each in before] == ["fold-batchnorm", "round-adaptively"]


def test_questions_about_sensitivity_need_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", MODEL, "--bits", "4") == cli.ERROR
    assert "--bits goes with --sensitivity" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["assign", "s.json", "-o", "r.toml"],
        ["assign", "s.json", "--size", "-3%", "-o", "r.toml"],
        ["assign", "s.json", "--size", "big", "-o", "r.toml"],
        ["assign", "s.json", "--size", "3%", "--min-sqnr", "30", "-o", "r.toml"],
        ["inspect", "m.onnx", "--sensitivity", "--bits", "four"],
    ],
)
def test_bad_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run(arguments)
    assert stop.value.code == cli.USAGE


@pytest.mark.parametrize(
    ("text", "size"),
    [("25%", 250), ("0.5%", 5), ("900kB", 900_000), ("1.5MB", 1_500_000), ("77B", 77), ("64", 64)],
)
def test_sizes(text: str, size: int) -> None:
    from onnxcompress.cli_arguments import parse_size

    assert parse_size(text).of(1000) == size
