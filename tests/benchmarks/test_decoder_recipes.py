import shutil
from pathlib import Path

import pytest

from benchmarks import decoder_recipes
from benchmarks.decoder_recipes import RECIPES, SUBJECT
from onnxcompress.ir import io
from onnxcompress.recipe import Recipe

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list(RECIPES))
def test_recipes_parse(name: str) -> None:
    recipe = Recipe.parse(RECIPES[name])
    assert recipe.passes
    assert Recipe.parse(recipe.dump()) == recipe


def test_page(tiny_decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, models = tmp_path / SUBJECT, tmp_path / "models"
    folder.mkdir()
    shutil.copy(tiny_decoder / "model.onnx", folder)
    for data in ("calibration.npz", "test.npz"):
        shutil.copy(tiny_decoder / "data.npz", folder / data)
    chosen = ["--recipe", "4 bits, table 8", "--windows", "5"]
    where = ["--cache", str(tmp_path), "--models", str(models), "--output", str(tmp_path / "p.md")]
    assert decoder_recipes.main([*chosen, *where]) == 0
    (written,) = models.iterdir()
    products = [node for _, node in io.load(written).nodes() if node.op == "MatMulNBits"]
    # q, o, gate, up and down are large enough, k and v are not; the table of the logits is.
    assert sorted(node.int_attr("bits", 0) for node in products) == [4] * 10 + [8]
    page = (tmp_path / "p.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page + "\n"
    original = decoder_recipes.perplexity(folder / "model.onnx", folder, 1, 5)
    packed = decoder_recipes.perplexity(written, folder, 1, 5)
    assert f"| {original:.2f} |" in page
    assert f"| {packed:.2f} | {packed / original - 1:.1%} |" in page
    assert original != packed


def test_subject_that_was_not_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decoder_recipes.main(["--cache", str(tmp_path)]) == 1
    assert "fetch smollm2" in capsys.readouterr().err
