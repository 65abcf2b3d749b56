import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(0)
GIVEN = {"domain": "com.microsoft", "num_heads": 2}
BATCH, LENGTH, WIDTH = 2, 4, 8


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ones_and_zeros(*shape):
    mask = RNG.integers(0, 2, shape).astype(np.int32)
    mask[..., 0] = 1
    return mask


PROJECTED = [normal(BATCH, LENGTH, WIDTH), normal(WIDTH, 24), normal(24)]


@pytest.mark.parametrize(
    "mask",
    [
        None,
        ones_and_zeros(BATCH, LENGTH),
        ones_and_zeros(BATCH, LENGTH, LENGTH),
        np.array([2, 4], np.int32),
    ],
)
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(mask, causal):
    inputs = [*PROJECTED, mask]
    check("Attention", inputs, unidirectional=causal, **GIVEN)
    check_gradients("Attention", inputs, unidirectional=causal, **GIVEN)


def test_attention_with_a_past():
    inputs = [*PROJECTED, None, normal(2, BATCH, 2, 3, 4)]
    check("Attention", inputs, 2, unidirectional=1, **GIVEN)
    check("Attention", inputs, 2, scale=0.3, **GIVEN)
    check("Attention", [*PROJECTED, None, None, normal(1, 2, LENGTH, LENGTH)], **GIVEN)


@pytest.mark.parametrize("mask", [None, ones_and_zeros(BATCH, 5)])
@pytest.mark.parametrize("biased", [True, False])
def test_multi_head_attention(biased, mask):
    tensors = [normal(BATCH, LENGTH, WIDTH), normal(BATCH, 5, WIDTH), normal(BATCH, 5, WIDTH)]
    inputs = [*tensors, normal(24) if biased else None, mask]
    check("MultiHeadAttention", inputs, **GIVEN)
    check("MultiHeadAttention", [*inputs, normal(1, 2, LENGTH, 5)], **GIVEN)
    check_gradients("MultiHeadAttention", inputs, **GIVEN)


def test_multi_head_attention_with_a_past():
    inputs = [
        *(normal(BATCH, LENGTH, WIDTH) for _ in range(3)),
        None,
        None,
        None,
        *(normal(BATCH, 2, 3, 4) for _ in range(2)),
    ]
    check("MultiHeadAttention", inputs, 3, **GIVEN)
    check("MultiHeadAttention", inputs, 3, unidirectional=1, **GIVEN)


def test_packed_inputs_are_refused():
    inputs = [normal(1, 3, 2, 3, 4)]
    with pytest.raises(UnsupportedError, match="packed"):
        ours(node_model("MultiHeadAttention", inputs, **GIVEN), inputs)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved):
    given = {"domain": "com.microsoft", "interleaved": interleaved}
    caches = [normal(20, 4), normal(20, 4)]
    spread = RNG.integers(0, 20, (2, 3))
    for positions in (spread, np.array([5])):
        check("RotaryEmbedding", [normal(2, 3, 16), positions, *caches], **given)
        check("RotaryEmbedding", [normal(2, 2, 3, 8), positions, *caches], **given)
    check_gradients("RotaryEmbedding", [normal(2, 3, 16), spread, *caches], wrt=[0], **given)
