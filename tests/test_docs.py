"""Every snippet in README and docs/ runs as it stands."""

from __future__ import annotations

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


@pytest.mark.parametrize("text", blocks("python"))
def test_python(text: str, folder: Path) -> None:
    (folder / "snippet.py").write_text(text)
    subprocess.run([sys.executable, "-W", "error", "snippet.py"], check=True)
    if "small.onnx" in text:
        assert (folder / "small.onnx").stat().st_size > 0


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", blocks("sh"))
def test_commands(text: str) -> None:
    for line in text.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "onnxcompress"
        assert cli.run(arguments) in (cli.DONE, cli.NOTHING_BETTER)


@pytest.mark.parametrize("text", blocks("toml"))
def test_recipes(text: str) -> None:
    recipe = Recipe.parse(text)
    assert Recipe.parse(recipe.dump()) == recipe


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
