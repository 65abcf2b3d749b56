"""What sensitivity is asked about, and what it is called."""

from __future__ import annotations

import pytest

from onnxcompress.errors import RecipeError
from onnxcompress.passes import PalettizeWeights, QuantizeStatic, QuantizeWeights
from onnxcompress.recipe import parse_pass
from onnxcompress.search.candidates import Goal, Traits
from onnxcompress.sensitivity.precision import default_precisions, labels, weight_precisions


def traits(convolutions: int, products: int, *, has_data: bool = True) -> Traits:
    return Traits(
        convolution_weights=convolutions,
        product_weights=products,
        has_data=has_data,
        goal=Goal.SIZE,
    )


def test_convolutional_networks_with_data_are_asked_about_static_int8() -> None:
    assert default_precisions(traits(9, 1)) == (QuantizeStatic(),)
    assert default_precisions(traits(9, 1, has_data=False)) == weight_precisions((8, 4, 2))
    assert default_precisions(traits(1, 9)) == weight_precisions((8, 4, 2))


def test_narrow_weights_have_scales_for_blocks() -> None:
    eight, four = weight_precisions((8, 4))
    assert eight == QuantizeWeights()
    assert four == parse_pass("quantize-weights:bits=4,granularity=per-block")


def test_a_width_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match="'bits' takes"):
        weight_precisions((8, 3))


def test_labels_tell_passes_apart() -> None:
    assert labels(weight_precisions((8, 4))) == ["bits=8", "bits=4"]
    assert labels([QuantizeWeights()]) == ["quantize-weights"]
    assert labels([QuantizeWeights(), PalettizeWeights()]) == [
        "quantize-weights",
        "palettize-weights",
    ]
    mixed = [*weight_precisions((4,)), QuantizeWeights(), PalettizeWeights()]
    assert labels(mixed) == [
        "quantize-weights:bits=4,granularity=per-block",
        "quantize-weights",
        "palettize-weights",
    ]


def test_the_same_pass_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="twice"):
        labels(weight_precisions((4, 4)))
