import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from tests.distillation.operators.support import (
    check,
    check_gradients,
    feeds_of,
    node_model,
)

RNG = np.random.default_rng(0)
HEADS = {"q_num_heads": 4, "kv_num_heads": 2}
BATCH, QUERIES, KEYS, SIZE = 2, 3, 5, 8


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def heads(keys=KEYS, queries=QUERIES, kv_heads=2):
    return [
        normal(BATCH, 4, queries, SIZE),
        normal(BATCH, kv_heads, keys, SIZE),
        normal(BATCH, kv_heads, keys, 6),
    ]


def past():
    return [normal(BATCH, 2, 4, SIZE), normal(BATCH, 2, 4, 6)]


def flat():
    return [normal(BATCH, QUERIES, 32), normal(BATCH, KEYS, 16), normal(BATCH, KEYS, 12)]


def boolean(*shape):
    return RNG.uniform(size=shape) < 0.7


def check_both(inputs, outputs=1, *, opset=23, runtime=True, **attributes):
    """Against ONNX's own reference, and against onnxruntime where it has the form."""
    model = node_model("Attention", inputs, outputs, opset=opset, **attributes)
    expected = ReferenceEvaluator(model).run(None, feeds_of(inputs))
    check("Attention", inputs, outputs, opset=opset, expected=expected, **attributes)
    if runtime:
        check("Attention", inputs, outputs, opset=opset, **attributes)
    check_gradients("Attention", inputs, outputs, opset=opset, **attributes)


def test_heads_and_flat_inputs():
    check_both(heads())
    check_both(heads(), scale=0.3)
    check_both(flat(), **HEADS)


@pytest.mark.parametrize("mask", [normal(3, 5), boolean(3, 5), normal(2, 1, 3, 5)])
def test_masks(mask):
    check_both([*heads(), mask])
    check_both([*heads(), mask], is_causal=1)


def test_a_query_with_nothing_to_attend_to():
    mask = np.ones((3, 5), bool)
    mask[1] = False
    check_both([*heads(), mask], runtime=False)


@pytest.mark.parametrize("opset", [23, 24])
def test_causal_with_a_past(opset):
    check_both([*heads(3), None, *past()], 3, opset=opset, is_causal=1)
    check_both([*heads(3), normal(3, 7), *past()], 3, opset=opset)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("opset", [23, 24])
def test_scores(opset, mode):
    inputs, given = [*heads(), normal(3, 5)], {"opset": opset, "qk_matmul_output_mode": mode}
    check("Attention", inputs, [0, 3], softcap=0.8, **given)
    check("Attention", inputs, [0, 3], softmax_precision=1, **given)
    check_gradients("Attention", inputs, [0, 3], softcap=0.8, **given)


def test_softcap():
    check_both([*heads(), normal(3, 5)], softcap=0.8, opset=24)


def test_lengths_of_a_cache():
    lengths = np.array([4, 5])
    check_both([*heads(), None, None, None, lengths], opset=24)
    check_both([*heads(), None, None, None, lengths], opset=24, is_causal=1)


def test_a_sliding_window():
    inputs = heads(queries=5)
    window = {"left_window_size": 1, "right_window_size": 2}
    check_both(inputs, opset=25, runtime=False, **window)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("size", [0, 4])
def test_rotary_embedding(size, interleaved):
    given = {"opset": 23, "interleaved": interleaved, "rotary_embedding_dim": size}
    half = (size or 8) // 2
    caches = [normal(20, half), normal(20, half)]
    positions = RNG.integers(0, 20, (2, 3))
    check("RotaryEmbedding", [normal(2, 4, 3, 8), *caches, positions], num_heads=4, **given)
    check("RotaryEmbedding", [normal(2, 3, 32), *caches, positions], num_heads=4, **given)
    spread = [normal(2, 3, half), normal(2, 3, half)]
    check("RotaryEmbedding", [normal(2, 4, 3, 8), *spread], num_heads=4, **given)
    check_gradients("RotaryEmbedding", [normal(2, 3, 32), *spread], num_heads=4, **given)
