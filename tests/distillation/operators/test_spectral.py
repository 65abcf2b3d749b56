import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(8)
REAL = RNG.normal(size=(2, 9, 6, 1)).astype(np.float32)
COMPLEX = RNG.normal(size=(2, 9, 6, 2)).astype(np.float32)


@pytest.mark.parametrize("x", [REAL, COMPLEX], ids=["real", "complex"])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("axis", [1, 2, -2])
def test_dft(x, inverse, axis):
    check("DFT", [x], opset=17, axis=axis % 4, inverse=inverse)
    check("DFT", [x, None, np.array(axis)], opset=20, inverse=inverse)
    check("DFT", [x, np.array(5), np.array(axis)], opset=20, inverse=inverse)
    check_gradients("DFT", [x, np.array(12), np.array(axis)], opset=20, inverse=inverse)


@pytest.mark.parametrize("length", [None, np.array(6), np.array(7)])
def test_one_side(length):
    check("DFT", [REAL, length, np.array(1)], opset=20, onesided=1)
    check_gradients("DFT", [REAL, length, np.array(1)], opset=20, onesided=1)


def test_back_from_one_side():
    half = np.fft.rfft(REAL[..., 0], axis=1)
    given = np.stack([half.real, half.imag], -1).astype(np.float32)
    rest = {"opset": 20, "inverse": 1, "onesided": 1}
    check("DFT", [given, np.array(9), np.array(1)], expected=[REAL], **rest)


@pytest.mark.parametrize("onesided", [0, 1])
def test_stft(onesided):
    signal, window = RNG.normal(size=(2, 40, 1)).astype(np.float32), np.hanning(9)[1:]
    inputs = [signal, np.array(5), window.astype(np.float32), np.array(8)]
    check("STFT", inputs, onesided=onesided)
    check("STFT", [*inputs[:2], None, np.array(8)], onesided=onesided)
    check("STFT", inputs[:3], onesided=onesided)
    check_gradients("STFT", inputs, onesided=onesided)
    with pytest.raises(UnsupportedError, match="neither a window nor a frame length"):
        ours(node_model("STFT", inputs[:2]), inputs[:2])


@pytest.mark.parametrize("bins", [8, 20])
def test_mel_weight_matrix(bins):
    given = [np.array(each) for each in (bins, 128, 16000)]
    limits = [np.array(each, np.float32) for each in (100, 7800)]
    check("MelWeightMatrix", [*given, *limits], tolerance=1e-6)
