"""The exported decoder and its tokenizer speak English."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from benchmarks.decoding import Decoder
from onnxcompress.runtime.session import Session, SessionSettings
from tests.conftest import SUBJECTS

pytestmark = pytest.mark.slow

FOLDER = SUBJECTS / "smollm2"


def test_the_capital_of_france() -> None:
    if not (FOLDER / "model.onnx").is_file():
        pytest.skip("smollm2 was not fetched: python -m benchmarks.subjects fetches it")
    # Without prepacking it loads in a third of the time.
    settings = SessionSettings(prepack=False)
    decoder = Decoder(Session(FOLDER / "model.onnx", settings))
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    first = decoder.read(np.array(tokenizer.encode("The capital of France is").ids, np.int64))
    assert tokenizer.decode([first, *decoder.write(first, 1)]) == " Paris."
