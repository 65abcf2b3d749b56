import numpy as np
import onnx
import pytest

from onnxcompress.quantization.nibbles import pack_last_axis, per_byte


@pytest.mark.parametrize(("bits", "name"), [(4, "uint4"), (2, "uint2")])
def test_bytes_are_those_of_an_onnx_tensor(bits: int, name: str) -> None:
    codes = np.random.default_rng(0).integers(0, 2**bits, (3, 16)).astype(np.uint8)
    kind = getattr(onnx.TensorProto, name.upper(), None)
    if kind is None:
        pytest.skip(f"{name} needs onnx 1.20 or newer; this is {onnx.__version__}")
    proto = onnx.helper.make_tensor(name, kind, codes.shape, codes.ravel().tolist())
    assert pack_last_axis(codes, bits).tobytes() == bytes(proto.int32_data)


def test_by_hand() -> None:
    assert pack_last_axis(np.uint8([[1, 2, 3]]), 4).tolist() == [[0x21, 0x03]]
    assert pack_last_axis(np.uint8([1, 2, 3, 0, 3]), 2).tolist() == [0b00111001, 0b11]
    assert pack_last_axis(np.uint8([7, 255]), 8).tolist() == [7, 255]
    assert [per_byte(bits) for bits in (2, 4, 8, 16)] == [4, 2, 1, 1]
