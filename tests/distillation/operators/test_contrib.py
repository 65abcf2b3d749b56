import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(0)
MICROSOFT = {"domain": "com.microsoft"}


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("a", "b", "attributes"),
    [
        ((2, 3, 4), (2, 4, 5), {"alpha": 0.5}),
        ((2, 4, 3), (2, 4, 5), {"transA": 1}),
        ((2, 3, 4), (5, 4), {"transB": 1, "alpha": 2.0}),
        ((3, 2, 4), (2, 4, 5), {"transBatchA": 1}),
        ((4, 2, 3), (2, 5, 4), {"transA": 1, "transBatchA": 1, "transB": 1}),
        ((2, 3, 4), (4, 2, 5), {"transBatchB": 1}),
    ],
)
def test_fused_matmul(a, b, attributes):
    check("FusedMatMul", [normal(*a), normal(*b)], **attributes, **MICROSOFT)
    check_gradients("FusedMatMul", [normal(*a), normal(*b)], **attributes, **MICROSOFT)


@pytest.mark.parametrize("op", ["Gelu", "FastGelu", "QuickGelu"])
def test_gelus(op):
    check(op, [normal(2, 3, 4)], **MICROSOFT)
    check_gradients(op, [normal(2, 3, 4)], **MICROSOFT)


@pytest.mark.parametrize("op", ["BiasGelu", "FastGelu"])
def test_gelus_of_a_sum(op):
    check(op, [normal(2, 3, 4), normal(4)], **MICROSOFT)
    check_gradients(op, [normal(2, 3, 4), normal(4)], **MICROSOFT)


@pytest.mark.parametrize("biased", [True, False])
def test_skip_layer_normalization(biased):
    bias = [normal(8)] if biased else []
    inputs = [normal(2, 3, 8), normal(2, 3, 8), normal(8), normal(8), *bias]
    for outputs in (1, [0, 3]):
        check("SkipLayerNormalization", inputs, outputs, epsilon=1e-3, **MICROSOFT)
    check_gradients("SkipLayerNormalization", inputs, 4, **MICROSOFT)
    inputs = [*inputs[:3], *bias]
    for outputs in (1, [0, 3]):
        check("SkipSimplifiedLayerNormalization", inputs, outputs, epsilon=1e-3, **MICROSOFT)
    check_gradients("SkipSimplifiedLayerNormalization", inputs, [0, 3], **MICROSOFT)


def test_embed_layer_normalization():
    ids, segments = (RNG.integers(0, high, (2, 5)).astype(np.int32) for high in (9, 2))
    tables = [normal(9, 8), normal(6, 8), normal(2, 8), normal(8), normal(8)]
    positions = np.array([[1, 2, 3, 4, 5], [0, 1, 2, 3, 4]], np.int32)
    op = "EmbedLayerNormalization"
    check(op, [ids, segments, *tables], 2, **MICROSOFT)
    check(op, [ids, None, *tables[:2], None, *tables[3:]], 2, **MICROSOFT)
    check(op, [ids, segments, *tables, None, positions], 3, **MICROSOFT)
    check_gradients(op, [ids, segments, *tables], [0, 2], **MICROSOFT)


@pytest.mark.parametrize(
    ("bits", "points"), [(4, "none"), (4, "packed"), (4, "float"), (8, "none"), (8, "packed")]
)
def test_matmul_nbits(bits, points):
    rows, columns, block = 40, 6, 16
    blocks = 3
    packed = RNG.integers(0, 256, (columns, blocks, block * bits // 8)).astype(np.uint8)
    scales = RNG.uniform(0.01, 0.1, columns * blocks).astype(np.float32)
    inputs = [normal(2, 5, rows), packed, scales]
    if points == "packed":
        size = columns * -(-blocks * bits // 8)
        inputs.append(RNG.integers(0, 256, size).astype(np.uint8))
    elif points == "float":
        inputs.append(RNG.uniform(0, 9, columns * blocks).astype(np.float32))
    given = {"K": rows, "N": columns, "bits": bits, "block_size": block, **MICROSOFT}
    check("MatMulNBits", inputs, tolerance=1e-4, **given)
    check_gradients("MatMulNBits", inputs, wrt=[0, 2], **given)


def test_matmul_nbits_with_groups_in_another_order_is_refused():
    inputs = [
        normal(2, 32),
        np.zeros((4, 2, 8), np.uint8),
        normal(8),
        None,
        np.zeros(32, np.int32),
    ]
    model = node_model("MatMulNBits", inputs, K=32, N=4, bits=4, block_size=16, **MICROSOFT)
    with pytest.raises(UnsupportedError, match="g_idx"):
        ours(model, inputs)
