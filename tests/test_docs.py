"""Every snippet in README and docs/ runs as it stands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from onnxcompress import cli
from onnxcompress.recipe import Recipe
from onnxcompress.report.json import json_schema
from tests.conftest import SUBJECTS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ASSETS = Path(str(resources.files("onnxcompress.demo_assets")))


def blocks(language: str, mark: str = "") -> list[object]:
    return list(_blocks(language, mark))


def _blocks(language: str, mark: str) -> Iterator[object]:
    for page in PAGES:
        for index, (kind, words, text) in enumerate(BLOCK.findall(page.read_text())):
            if kind == language and words.strip() == mark:
                yield pytest.param(text, id=f"{page.stem}-{index}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the snippets name."""
    shutil.copy(ASSETS / "digits.onnx", tmp_path / "model.onnx")
    with np.load(ASSETS / "digits.npz") as arrays:
        np.savez(tmp_path / "data.npz", **{key: arrays[key][:40] for key in arrays})
        np.savez(tmp_path / "training.npz", **{key: arrays[key][40:140] for key in arrays})
    (tmp_path / "recipe.toml").write_text('[[pass]]\nname = "quantize-static"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("text", blocks("python"))
def test_python(text: str, folder: Path) -> None:
    (folder / "snippet.py").write_text(text)
    subprocess.run([sys.executable, "-W", "error", "snippet.py"], check=True)
    if "small.onnx" in text:
        assert (folder / "small.onnx").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", blocks("sh"))
def test_commands(text: str) -> None:
    for line in text.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "onnxcompress"
        assert cli.run(arguments) in (cli.DONE, cli.NOTHING_BETTER)


RECIPES = [each for mark in ("", "image", "text") for each in blocks("toml", mark)]


@pytest.mark.parametrize("text", RECIPES)
def test_recipes(text: str) -> None:
    recipe = Recipe.parse(text)
    assert Recipe.parse(recipe.dump()) == recipe


def compressed(folder: Path, recipe: str) -> list[str]:
    """Runs a recipe of a page as it stands; the passes that changed something."""
    (folder / "recipe.toml").write_text(recipe)
    command = "compress model.onnx -o small.onnx --data data.npz --training training.npz"
    options = ["--recipe", "recipe.toml", "--json", "report.json"]
    assert cli.run([*command.split(), *options]) in (cli.DONE, cli.NOTHING_BETTER)
    report = json.loads((folder / "report.json").read_text())
    (tried,) = [each for each in report["candidates"] if each["name"] == "recipe"]
    return [each["name"] for each in tried["passes"] if each["changes"]]


@pytest.mark.slow
@pytest.mark.parametrize("text", blocks("toml", "image"))
def test_recipe_for_images_runs_as_it_stands(text: str, folder: Path) -> None:
    changed = compressed(folder, text)
    assert {"prune-channels", "strip-pruned", "fine-tune", "quantize-static"} <= set(changed)
    before, after = (folder / name for name in ("model.onnx", "small.onnx"))
    assert after.stat().st_size < 0.3 * before.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("text", blocks("toml", "text"))
def test_recipe_for_texts_runs_as_it_stands(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On few documents: how good the student becomes, benchmarks.recovery measures."""
    subject = SUBJECTS / "minilm"
    if not (subject / "model.onnx").is_file():
        pytest.skip("minilm was not fetched: python -m benchmarks.subjects fetches it")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").symlink_to(subject / "model.onnx")
    for name, source, count in (("data", "calibration", 12), ("training", "training", 8)):
        with np.load(subject / f"{source}.npz") as arrays:
            np.savez(tmp_path / f"{name}.npz", **{key: arrays[key][:count] for key in arrays})
    changed = compressed(tmp_path, text)
    assert {"drop-block", "quantize-dynamic", "quantize-weights"} <= set(changed)
    assert (tmp_path / "small.onnx").stat().st_size < 20_000_000


@pytest.mark.parametrize("text", blocks("toml", "entry-point"))
def test_entry_points_are_toml(text: str) -> None:
    from onnxcompress.registry import ENTRY_POINT_GROUP

    assert ENTRY_POINT_GROUP in tomllib.loads(text)["project"]["entry-points"]


def test_readme_is_short_and_names_the_set_up() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    setup = [block for kind, words, block in BLOCK.findall(text) if words.strip() == "setup"]
    assert len(setup) == 2


def test_report_schema_is_up_to_date() -> None:
    assert (ROOT / "docs" / "report.schema.json").read_text() == json_schema()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
