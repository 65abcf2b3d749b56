"""A table that rows are looked up in and that a product multiplies by, transposed: stored once."""

import itertools

import numpy as np
import pytest

from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Override, Pass
from onnxcompress.passes import (
    GPTQ,
    QuantizeDynamic,
    QuantizeFixedPoint,
    QuantizeStatic,
    QuantizeWeights,
)
from onnxcompress.qdq.integer_weights import WeightBits, WeightGranularity
from onnxcompress.qdq.weight_forms import WeightForm
from onnxcompress.runtime.ort_profile import executed_ops
from onnxcompress.target import Target
from tests.helpers import outputs

from .support import apply, model_of, normal, sqnr, stored

TABLE = normal(96, 64)
IDS = {"ids": np.arange(48).reshape(12, 4) * 2 % 96}
LOOKED_UP = (
    "g (int64[N, L] ids) => (float[N, L, 64] rows, float[N, L, 96] y) {{ "
    "rows = Gather(t, ids)  a = Relu(rows)  {} }}"
)
TIES = {
    "dynamo": ("v = Transpose <perm = [1, 0]> (t)  [logits] y = MatMul(a, v)", {}),
    "torchscript": ("[logits] y = MatMul(a, v)", {"v": np.ascontiguousarray(TABLE.T)}),
    "gemm": (
        "f = Reshape(a, flat)  [logits] g = Gemm <transB = 1> (f, t)  y = Reshape(g, back)",
        {"flat": np.array([-1, 64]), "back": np.array([-1, 4, 96])},
    ),
}
"""By exporter, how a product reads the table, and what else is stored."""


def _tied(by: str) -> Model:
    nodes, more = TIES[by]
    return model_of(LOOKED_UP.format(nodes), t=TABLE, **more)


def _large(model: Model) -> list[tuple[str, tuple[int, ...]]]:
    """Type and shape of what is stored for at least half a bit a weight."""
    return [(v.dtype.name, v.shape) for v in stored(model).values() if v.nbytes > TABLE.size // 16]


@pytest.mark.parametrize("by", TIES)
@pytest.mark.parametrize("target", [Target.X86_VNNI, Target.X86_AVX2])
def test_dynamic(by: str, target: Target) -> None:
    """On the older processor the product's scales are other than the nearest for a table."""
    model = _tied(by)
    before = outputs(model, IDS)
    apply(QuantizeDynamic(min_elements=1024), model, target=target)
    assert _large(model) == [("int8", (64, 96))]
    for name, values in before.items():
        assert sqnr(values, outputs(model, IDS)[name]) > 35


@pytest.mark.parametrize("by", TIES)
@pytest.mark.parametrize(
    "pass_",
    [QuantizeStatic(), QuantizeFixedPoint(), GPTQ(), GPTQ(form=WeightForm.MATMUL_NBITS)],
    ids=lambda pass_: f"{pass_.name}-{getattr(pass_, 'form', '')}",
)
def test_lookups_read_what_the_product_stores(by: str, pass_: Pass) -> None:
    model = _tied(by)
    before = outputs(model, IDS)
    apply(pass_, model, data=IDS)
    weights = [name for name, shape in _large(model) if np.prod(shape) * 2 >= TABLE.size]
    assert len(weights) == 1 and weights != ["float32"]
    for name, values in before.items():
        assert sqnr(values, outputs(model, IDS)[name]) > (12 if isinstance(pass_, GPTQ) else 28)


_ASYMMETRIC = {"symmetric": False, "granularity": WeightGranularity.PER_BLOCK}
FORMS = (
    *(QuantizeWeights(bits=WeightBits.FOUR, form=form, **_ASYMMETRIC) for form in WeightForm),
    QuantizeWeights(bits=WeightBits.TWO, **_ASYMMETRIC),
    QuantizeWeights(),
    QuantizeWeights(granularity=WeightGranularity.PER_TENSOR, form=WeightForm.AUTO),
    QuantizeWeights(bits=WeightBits.SIXTEEN, form=WeightForm.AT_LOAD),
)


@pytest.mark.parametrize("options", FORMS, ids=lambda each: f"{each.bits}-{each.form.value}")
def test_any_form_of_weights(options: QuantizeWeights) -> None:
    _stored_once("dynamo", options)


@pytest.mark.campaign
@pytest.mark.parametrize("by", TIES)
@pytest.mark.parametrize("bits", WeightBits)
def test_every_form_of_weights(by: str, bits: WeightBits) -> None:
    for symmetric, granularity, form in itertools.product(
        (True, False), WeightGranularity, WeightForm
    ):
        in_blocks = granularity is WeightGranularity.PER_BLOCK and bits in (4, 8)
        if form is not WeightForm.MATMUL_NBITS or in_blocks:
            _stored_once(
                by,
                QuantizeWeights(bits=bits, symmetric=symmetric, granularity=granularity, form=form),
            )


def _stored_once(by: str, options: QuantizeWeights) -> None:
    model = _tied(by)
    apply(options, model)
    found, whole = outputs(model, IDS), _whole(model)
    np.testing.assert_array_equal(found["rows"], whole[IDS["ids"]])
    wanted = np.maximum(found["rows"], 0) @ whole.T  # both ends see one table
    np.testing.assert_allclose(found["y"], wanted, atol=2e-2 * np.abs(wanted).max())
    assert len(_codes(model, options.bits)) == 1, _large(model)


def _codes(model: Model, bits: int) -> list[str]:
    """The types of what is large enough to hold the integers of the whole table."""
    return [
        values.dtype.name
        for values in stored(model).values()
        if 8 * values.nbytes >= TABLE.size * bits
        or (values.dtype.name.endswith(("int4", "int2")) and values.size == TABLE.size)
    ]


def _whole(model: Model) -> np.ndarray:
    return outputs(model, {"ids": np.arange(96).reshape(-1, 4)})["rows"].reshape(96, 64)


def test_an_option_of_the_lookup_alone_is_kept() -> None:
    """Who asks for other bits in lookups gets them, with a copy of their own."""
    table = Override(QuantizeWeights(bits=WeightBits.EIGHT), op_types=("Gather",))
    model = _tied("dynamo")
    apply(QuantizeWeights(bits=WeightBits.SIXTEEN, overrides=(table,)), model)
    kinds = sorted(v.dtype.name for v in stored(model).values() if v.size == TABLE.size)
    assert kinds == ["int16", "int8"]


def test_lookups_in_bodies_and_of_scalars() -> None:
    """Both lookups of a table read what the product stores, one of them in a branch."""
    model = model_of(
        """g (int64[N] ids, int64 one, bool first) => (float[N, 96] y, float[64] z) {
          rows = Gather(t, ids)  a = Relu(rows)
          v = Transpose <perm = [1, 0]> (t)  y = MatMul(a, v)
          z = If (first) <
            then_branch = then () => (float[64] p) { p = Gather(t, one) },
            else_branch = other () => (float[64] q) { u = Gather(t, one)  q = Neg(u) }
          > }""",
        t=TABLE,
    )
    feeds = {"ids": IDS["ids"][0], "one": np.array(7), "first": np.array(False)}
    before = outputs(model, feeds)
    apply(QuantizeWeights(), model)
    assert _large(model) == [("int8", (64, 96))]
    for name, values in before.items():
        assert sqnr(values, outputs(model, feeds)[name]) > 35


def test_the_product_stays_fused() -> None:
    """What turns the rows round is computed when the session loads."""
    model = _tied("dynamo")
    apply(QuantizeDynamic(min_elements=1024), model)
    ran = executed_ops(io.to_bytes(model))
    assert "DynamicQuantizeMatMul" in ran and "Transpose" not in ran
