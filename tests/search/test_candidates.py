"""Which candidates are tried on which models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onnxcompress.ir.from_proto import import_model
from onnxcompress.search.candidates import CANDIDATES, CLEAN_UP, Goal, Traits, traits_of
from tests.helpers import parse_model

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1,1,4,4] x) => (float[1,2] y)
<float[1,1,2,2] w = {1, 2, 3, 4}, float[9,2] v = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}>
{ c = Conv(x, w)  f = Flatten(c)  y = MatMul(f, v) }
"""


def traits(
    convolutions: int = 0, products: int = 0, *, data: bool = True, goal: Goal = Goal.SPEED
) -> Traits:
    return Traits(
        convolution_weights=convolutions, product_weights=products, has_data=data, goal=goal
    )


def tried(given: Traits) -> set[str]:
    return {candidate.name for candidate in CANDIDATES if candidate.unfit(given) is None}


def test_traits_count_weights() -> None:
    model = import_model(parse_model(MODEL))
    found = traits_of(model, has_data=True, goal=Goal.SPEED)
    assert found == traits(4, 18)


def test_traits_count_both_recurrent_weights() -> None:
    text = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[5,1,3] x) => (y) <float[1,2,3] w = {1,2,3,4,5,6}, float[1,2,2] r = {1,2,3,4}>
{ y = RNN <hidden_size = 2> (x, w, r) }
"""
    found = traits_of(import_model(parse_model(text)), has_data=True, goal=Goal.SPEED)
    assert found.recurrent_weights == 10
    assert found.product_weights == 0


@pytest.mark.parametrize(
    "call",
    [
        "v = Transpose(w)  y = MatMul(x, v)",
        "v = Identity(w)  y = Gemm(x, v)",
        "u = Unsqueeze(w, a)  v = Squeeze(u, a)  y = MatMul(x, v)",
        "c = Cast <to = 11> (w)  v = Cast <to = 1> (c)  y = Gemm <transB = 1> (x, v)",
        "c = Concat <axis = 0> (w, w)  y = MatMul(x, c)",
    ],
)
def test_traits_look_through_views(call: str) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 2] x) => (y)
      <float[2, 2] w = {1, 2, 3, 4}, int64[1] a = {0}> { CALL }"""
    model = import_model(parse_model(text.replace("CALL", call)))
    assert traits_of(model, has_data=True, goal=Goal.SPEED).product_weights == 4
    assert tried(traits_of(model, has_data=False, goal=Goal.SPEED)) == {"dynamic-int8"}


def test_recurrent_models_try_dynamic() -> None:
    given = replace(traits(data=False), recurrent_weights=10)
    assert tried(given) == {"dynamic-int8"}


def test_transformers_try_dynamic_with_and_without_smoothing_and_one_static() -> None:
    expected = {"static-int8", "dynamic-int8", "smooth-dynamic-int8"}
    assert tried(traits(products=10)) == expected


def test_nothing_static_without_data() -> None:
    assert tried(traits(10, 10, data=False)) == {"dynamic-int8"}
    assert tried(traits(10, 0, data=False)) == set()


def test_convolutions_try_every_range_and_float_starts() -> None:
    names = tried(traits(convolutions=10))
    assert {"static-int8-percentile", "static-int8-mse", "static-int8-float-1"} <= names
    assert "dynamic-int8" not in names


def test_size_also_tries_weights_alone() -> None:
    without_data = {"weights-int8", "weights-int4", "palette-16"}
    calibrated = without_data | {"gptq-int4"}
    assert calibrated <= tried(traits(10, 10, goal=Goal.SIZE))
    assert calibrated.isdisjoint(tried(traits(10, 10)))
    assert calibrated & tried(traits(10, 10, data=False, goal=Goal.SIZE)) == without_data


def test_products_of_few_rows_try_small_weights_for_speed() -> None:
    few = replace(traits(products=10), product_rows=4)
    assert {"weights-int8", "weights-int4"} <= tried(few)
    assert tried(replace(few, product_rows=5)) == tried(traits(products=10))
    mostly = replace(few, convolution_weights=100)
    assert tried(mostly).isdisjoint({"weights-int8", "weights-int4"})


def test_candidates_have_names_of_their_own_and_clean_up_is_exact() -> None:
    names = [candidate.name for candidate in CANDIDATES]
    assert len(set(names)) == len(names)
    assert all(each.exact for each in CLEAN_UP)
