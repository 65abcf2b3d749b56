"""`--runtime`: what is asked of a result, what is refused, and what the report says."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcompress
from onnxcompress import cli
from onnxcompress.measure import size
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.releases import Release, oldest_release
from onnxcompress.search import judge
from onnxcompress.search.candidates import CLEAN_UP

ASSETS = Path(str(resources.files("onnxcompress.demo_assets")))
MODEL = ASSETS / "digits.onnx"
INT4 = "quantize-weights:bits=4,granularity=per-block,min_elements=1"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "LATENCY_SECONDS", 0.1)
    monkeypatch.setattr(size, "peak_memory_bytes", lambda *_: 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with np.load(ASSETS / "digits.npz") as arrays:
        np.savez(tmp_path / "data.npz", **{key: arrays[key][:40] for key in arrays})
    return tmp_path / "data.npz"


def compressed(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    output, report = tmp_path / "out.onnx", tmp_path / "report.json"
    given = ["compress", MODEL, "-o", output, "--json", report, *arguments]
    assert cli.run([str(each) for each in given]) in (cli.DONE, cli.NOTHING_BETTER)
    loaded = onnxcompress.load(output)
    written: dict[str, Any] = json.loads(report.read_text())
    assert written["oldest_onnxruntime"] == str(oldest_release(loaded))
    return written


def test_4_bits_for_an_older_one_by_a_recipe_that_asks_for_it(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Recipe((parse_pass(INT4),), Release(1, 16))
    asked.save(tmp_path / "recipe.toml")
    assert Recipe.load(tmp_path / "recipe.toml") == asked
    written = compressed(tmp_path, "--data", data, "--recipe", tmp_path / "recipe.toml")
    assert (written["oldest_onnxruntime"], written["runtime"]) == ("1.15", "1.16")
    baseline, (candidate,) = written["baseline"], written["candidates"]
    assert baseline["oldest_onnxruntime"] == "1.15"
    assert Recipe.parse(candidate["recipe"]) == asked
    assert candidate["model"]["oldest_onnxruntime"] == "1.15"
    assert (tmp_path / "out.onnx").stat().st_size < 0.3 * MODEL.stat().st_size
    assert "loads with onnxruntime 1.15 and newer\n" in capsys.readouterr().out


@pytest.mark.slow
def test_no_candidate_of_the_search_needs_a_later_one(tmp_path: Path, data: Path) -> None:
    written = compressed(tmp_path, "--data", data, "--goal", "size", "--runtime", "1.16")
    models = {each["name"]: each["model"] for each in written["candidates"]}
    assert models["weights-int4"] is not None and models["gptq-int4"] is not None
    assert {each["oldest_onnxruntime"] for each in models.values() if each} == {"1.15"}


def newer(tmp_path: Path) -> Path:
    model = onnx.load(MODEL)
    model.ir_version = 10
    onnx.save(model, tmp_path / "newer.onnx")
    return tmp_path / "newer.onnx"


def test_a_model_that_is_newer_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = newer(tmp_path), tmp_path / "out.onnx"
    arguments = ["compress", source, "-o", output, "--runtime", "1.16"]
    assert cli.run([str(each) for each in arguments]) == cli.ERROR
    assert (
        "newer.onnx: IR version 10 needs onnxruntime 1.18 or newer, so --runtime 1.16 cannot be "
        "had; export it for that version, or ask for 1.18"
    ) in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("text", "told"), [("1.14", "older than the releases that are known"), ("new", "no release")]
)
def test_what_is_no_release(text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.run(["compress", "m.onnx", "-o", "o.onnx", "--runtime", text])
    assert exit_.value.code == cli.USAGE
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("runtime = 1.16", 'release as text, such as "1.16", not 1.16'),
        ("runtime = '1'", "no release"),
    ],
)
def test_recipes_write_it_as_text(text: str, told: str) -> None:
    with pytest.raises(onnxcompress.OnnxCompressError, match=told):
        Recipe.parse(f"{text}\n{Recipe.of(CLEAN_UP).dump()}")


def test_inspect_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert cli.run(["inspect", str(newer(tmp_path)), "--json", str(report)]) == cli.DONE
    written = json.loads(report.read_text())
    assert written["oldest_onnxruntime"] == "1.18"
    assert written["demands"] == ["IR version 10 needs onnxruntime 1.18 or newer"]
    assert "loads with onnxruntime 1.18 and newer: IR version 10" in capsys.readouterr().out
