import numpy as np
import pytest

from onnxcompress.ir.model import Model
from onnxcompress.passes import QuantizeDynamic, QuantizeStatic, QuantizeWeights, StoreSparse
from onnxcompress.passes.store_sparse import SparseForm
from onnxcompress.qdq.saturation_risk import integer_products, saturation_risks
from onnxcompress.target import Target
from tests.helpers import reload
from tests.passes.support import apply, model_of, normal

CNN = """g (float[N, 4, 9, 9] x) => (float[N, 3] y) {
  [dense] a = Conv(x, w1)  [depthwise] b = Conv <group = 6> (a, w2)
  f = Flatten(b)  [head] y = MatMul(f, w3) }"""
IMAGES = normal(6, 4, 9, 9)


def _cnn() -> Model:
    return model_of(CNN, w1=normal(6, 4, 3, 3), w2=normal(6, 1, 3, 3), w3=normal(150, 3, seed=1))


@pytest.mark.parametrize("target", [Target.X86_VNNI, Target.PORTABLE])
def test_risks_of_a_static_model(target: Target) -> None:
    model = _cnn()
    apply(QuantizeStatic(), model, data={"x": IMAGES}, target=target)
    model = reload(model)
    products = {node.name: weight for node, weight in integer_products(model)}
    assert set(products) == {"dense", "depthwise", "head"}
    risks = {risk.node: risk for risk in saturation_risks(model)}
    if target is Target.PORTABLE:
        assert not risks
        return
    assert set(risks) == {"dense", "head"}  # the depthwise kernel multiplies one by one
    head = products["head"].astype(int)
    up = np.maximum(head, 0).reshape(75, 2, 3).sum(1)
    down = np.minimum(head, 0).reshape(75, 2, 3).sum(1)
    exceeds = (255 * up > 32767) | (255 * down < -32768)
    assert risks["head"].channels == 3
    assert risks["head"].channels_at_risk == exceeds.any(axis=0).sum()
    worst = max(up.max(), -down.min())
    assert risks["head"].worst == pytest.approx(255 * worst / 32767)
    assert 1 < risks["head"].worst < 2


def test_risks_of_weights_that_are_stored_without_their_zeros() -> None:
    w = normal(64, 96) * (np.random.default_rng(0).random((64, 96)) < 0.3)
    model = model_of(
        "g (float[N, 64] x) => (float[N, 96] y) { [product] y = MatMul(x, w) }",
        w=w.astype(np.float32),
    )
    apply(QuantizeStatic(), model, data={"x": normal(8, 64)})
    [before] = saturation_risks(model)
    assert apply(StoreSparse(form=SparseForm.BITMAP), model).modified
    assert saturation_risks(reload(model)) == [before]


def test_risks_of_a_dynamic_model() -> None:
    text = "g (float[N, 64] x) => (float[N, 96] y) { [product] y = MatMul(x, w) }"
    model = model_of(text, w=normal(64, 96))
    apply(QuantizeDynamic(), model)
    [risk] = saturation_risks(reload(model))
    assert (risk.op, risk.channels) == ("MatMulInteger", 96)
    portable = model_of(text, w=normal(64, 96))
    apply(QuantizeDynamic(), portable, target=Target.PORTABLE)
    assert len(integer_products(portable)) == 1
    assert not saturation_risks(portable)


def test_a_model_that_another_tool_made_without_saying_types() -> None:
    model = model_of(
        """g (float[N, 4] x) => (float[N, 2] y) {
          q, s, z = DynamicQuantizeLinear(x)  i = MatMulInteger(q, w, z)
          f = Cast <to = 1> (i)  y = Mul(f, s) }""",
        w=np.array([[127, -1], [2, 5], [3, 100], [-9, 28]], np.int8),
    )
    [risk] = saturation_risks(model)
    assert (risk.channels, risk.channels_at_risk) == (2, 1)
    assert risk.worst == pytest.approx(255 * 129 / 32767)


@pytest.mark.parametrize("target", [Target.X86_VNNI, Target.PORTABLE])
def test_risks_of_an_lstm(target: Target) -> None:
    model = model_of(
        """g (float[S, N, 8] x) => (float[S, 1, N, 16] y) {
          b = Tanh(x)  [cell] y = LSTM <hidden_size = 16> (b, w, r) }""",
        w=normal(1, 64, 8),
        r=normal(1, 64, 16, seed=1),
    )
    apply(QuantizeDynamic(min_elements=0), model, target=target)
    [(node, weight)] = integer_products(reload(model))
    assert (node.op, weight.shape) == ("DynamicQuantizeLSTM", (16, 128))
    risks = saturation_risks(model)
    if target is Target.PORTABLE:
        assert not risks
    else:
        assert [(risk.node, risk.channels) for risk in risks] == [(node.name, 128)]
        assert 1 < risks[0].worst < 2


def test_weights_that_are_unpacked_to_float_are_no_risk() -> None:
    model = _cnn()
    apply(QuantizeWeights(min_elements=0), model)
    assert not integer_products(reload(model))
