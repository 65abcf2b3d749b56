"""Recipes: what they accept, what they refuse and how clearly, and that nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxcompress.errors import RecipeError
from onnxcompress.ir.model import Node
from onnxcompress.passes import FoldConstants, QuantizeStatic, QuantizeWeights
from onnxcompress.quantization.observers import Observer
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.registry import pass_types

FULL = """
[[pass]]
name = "fold-constants"
max_growth = 5

[[pass]]
name = "quantize-static"
observer = "percentile"

[[pass.override]]
nodes = ["/stem/*", "head"]
exclude = true

[[pass.override]]
op_types = ["Gemm"]
observer = "mse"
"""


def test_options_become_typed_fields() -> None:
    fold, static = Recipe.parse(FULL).passes
    assert fold == FoldConstants(max_growth=5)
    assert isinstance(static, QuantizeStatic)
    assert static.observer is Observer.PERCENTILE


def test_overrides_hold_by_name_then_op_type_then_default() -> None:
    static = Recipe.parse(FULL).passes[1]
    assert static.at(Node("Conv", "/stem/conv")) is None
    assert static.at(Node("Gemm", "head")) is None
    gemm = static.at(Node("Gemm", "other"))
    conv = static.at(Node("Conv", "other"))
    assert isinstance(gemm, QuantizeStatic)
    assert gemm.observer is Observer.MSE
    assert conv is static


def test_an_override_keeps_the_options_of_its_pass() -> None:
    text = '[[pass]]\nname = "quantize-static"\nactivations = "int8"\n'
    text += '[[pass.override]]\nop_types = ["Gemm"]\nobserver = "mse"\n'
    (static,) = Recipe.parse(text).passes
    gemm = static.at(Node("Gemm", "any"))
    assert isinstance(gemm, QuantizeStatic)
    assert gemm.activations.value == "int8"


def test_dump_and_parse_are_inverse() -> None:
    recipe = Recipe.parse(FULL)
    assert Recipe.parse(recipe.dump()) == recipe


def test_an_override_that_goes_back_to_a_default_is_kept() -> None:
    text = '[[pass]]\nname = "quantize-static"\nobserver = "mse"\n'
    text += '[[pass.override]]\nop_types = ["Gemm"]\nobserver = "min-max"\n'
    recipe = Recipe.parse(text)
    assert 'observer = "min-max"' in recipe.dump()
    assert Recipe.parse(recipe.dump()) == recipe


@pytest.mark.parametrize("name", list(pass_types()))
def test_every_pass_goes_through_toml_with_its_defaults(name: str) -> None:
    recipe = Recipe.of([pass_types()[name]()])
    assert recipe.dump().split() == ["[[pass]]", "name", "=", f'"{name}"']
    assert Recipe.parse(recipe.dump()) == recipe


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "names no pass"),
        ("[[pass]]", "needs a name"),
        ("[[pass]]\nname = 3", "needs a name"),
        ("pass = 3", "[[pass]] tables"),
        ("[[passes]]\nname = 'x'", "unknown key 'passes'"),
        ("[[pass]", "not TOML"),
        ("[[pass]]\nname = 'fold-constant'", "did you mean fold-constants"),
        ("[[pass]]\nname = 'fold-constants'\nmax_grow = 1", "did you mean max_growth"),
        ("[[pass]]\nname = 'fold-constants'\nmax_growth = 'much'", "takes int, not 'much'"),
        ("[[pass]]\nname = 'fold-constants'\nmax_growth = true", "takes int, not True"),
        ("[[pass]]\nname = 'fold-pad'\nx = 1", "it takes none"),
        ("[[pass]]\nname = 'fold-pad'\n[[pass.override]]\nexclude = true", "needs nodes"),
        ("[[pass]]\nname = 'fold-pad'\n[[pass.override]]\nnodes = 'x'", "list of strings"),
        ("[[pass]]\nname = 'fold-pad'\noverride = 3", "[[pass.override]] tables"),
        (
            "[[pass]]\nname = 'fold-constants'\n[[pass.override]]\nnodes = ['x']\n"
            "exclude = true\nmax_growth = 1",
            "do one of the two",
        ),
    ],
)
def test_mistakes_are_named(text: str, part: str) -> None:
    with pytest.raises(RecipeError) as fault:
        Recipe.parse(text)
    assert part in str(fault.value)
    assert len(str(fault.value).splitlines()) == 1


def test_mistakes_in_a_file_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[[pass]]")
    with pytest.raises(RecipeError, match=r"mine\.toml: "):
        Recipe.load(path)
    with pytest.raises(RecipeError, match=r"none\.toml: cannot be read"):
        Recipe.load(tmp_path / "none.toml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="UTF-8"):
        Recipe.load(path)


def test_command_line_form() -> None:
    assert parse_pass("fold-constants") == FoldConstants()
    assert parse_pass("fold-constants:max_growth=7") == FoldConstants(max_growth=7)
    static = parse_pass("quantize-static:observer=mse,per_channel=false")
    assert static == QuantizeStatic(observer=Observer.MSE, per_channel=False)


def test_a_name_that_is_written_out_means_itself_and_beats_a_pattern() -> None:
    recipe = Recipe.parse("""
        [[pass]]
        name = "quantize-weights"
        [[pass.override]]
        nodes = ["layers[[]*"]
        min_elements = 7
        [[pass.override]]
        nodes = ["layers[0]/MatMul"]
        exclude = true
    """)
    (quantize,) = recipe.passes
    assert quantize.at(Node("MatMul", "layers[0]/MatMul")) is None
    other = quantize.at(Node("MatMul", "layers[1]/MatMul"))
    assert isinstance(other, QuantizeWeights) and other.min_elements == 7
    default = quantize.at(Node("MatMul", "head"))
    assert isinstance(default, QuantizeWeights) and default.min_elements != 7
