import numpy as np

from onnxcompress.measure.macs import cost_by_op
from onnxcompress.pass_base import TensorType
from tests.helpers import parse


def _type(*shape: int) -> TensorType:
    return TensorType(np.dtype(np.float32), shape)


def test_packed_products_cost_what_the_float_ones_do() -> None:
    model = parse("""g (
      float[2, 3, 32] x, uint8[5, 1, 16] packed, float[5, 1] scale, float[32, 5] w
    ) => (float[2, 3, 5] y) {
      a = com.microsoft.MatMulNBits<K = 32, N = 5, bits = 4, block_size = 32>(x, packed, scale)
      b = MatMul(x, w)
      y = Add(a, b)
    }""")
    types = {"x": _type(2, 3, 32), "packed": _type(5, 1, 16), "w": _type(32, 5)}
    types |= dict.fromkeys(("a", "b", "y"), _type(2, 3, 5))
    macs = {row.op: row.macs for row in cost_by_op(model, types)}
    assert macs["com.microsoft.MatMulNBits"] == macs["MatMul"] == 2 * 3 * 5 * 32
    assert macs["Add"] == 0
