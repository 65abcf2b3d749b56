from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks import decoding
from benchmarks.decoding import Decoder
from onnxcompress.errors import DataError
from onnxcompress.runtime.session import Session
from tests.helpers import parse_model
from tests.tiny_decoder import VOCABULARY

TOKENS = np.arange(5, dtype=np.int64)


@pytest.fixture
def session(tiny_decoder: Path) -> Session:
    return Session(tiny_decoder / "model.onnx")


def _without_cache(session: Session, tokens: np.ndarray) -> int:
    """The likeliest next token, the whole text read again."""
    decoder = Decoder(session)
    return decoder.read(tokens)


def test_writing_with_the_cache_is_reading_all_again(session: Session) -> None:
    decoder = Decoder(session)
    assert decoder.vocabulary == VOCABULARY
    first = decoder.read(TOKENS)
    text = [*TOKENS.tolist(), first, *decoder.write(first, 6)]
    for end in range(len(TOKENS), len(text)):
        assert text[end] == _without_cache(session, np.array(text[:end]))
    decoder.forget()
    assert decoder.read(TOKENS) == first


def test_the_cache_holds_what_was_read(session: Session) -> None:
    decoder = Decoder(session)
    decoder.read(TOKENS)
    decoder.read(TOKENS[:1])
    assert {array.shape for array in decoder._cache.values()} == {(1, 2, 6, 8)}


def _clock(steps: list[int]) -> Iterator[int]:
    """One millisecond for reading, `steps` in turn for writing."""
    now = 0
    for step in count():
        yield now
        now += 1_000_000
        yield now
        now += steps[step % len(steps)] * 1_000_000
        yield now


def test_speeds_by_the_clock(session: Session) -> None:
    ticks = _clock([4])
    speeds = decoding.measure(
        [Decoder(session), Decoder(session)], prompt=3, new=2, rounds=5, clock=lambda: next(ticks)
    )
    assert [speed.prefill.median_ms for speed in speeds] == [1, 1]
    assert [speed.decode.median_ms for speed in speeds] == [4, 4]
    assert [speed.decode.speedup for speed in speeds] == [1, 1]
    assert speeds[0].decode.rounds == 5


def test_page(tiny_decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, page = tiny_decoder / "model.onnx", tmp_path / "results" / "decoding.md"
    sizes = ["--prompt", "4", "--new", "3", "--rounds", "5"]
    assert decoding.main([str(path), str(path), *sizes, "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert capsys.readouterr().out == text + "\n"
    assert "A prompt of 4 tokens read at once, then 3 tokens one by one" in text
    assert "`python -m benchmarks.decoding model.onnx model.onnx --prompt 4" in text
    rows = [line for line in text.splitlines() if line.startswith(f"| {tiny_decoder.name} |")]
    assert len(rows) == 2
    assert "| 1.00 (1.00-1.00) |" in rows[0]


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        ("g (int64[b, s] input_ids) => (float[b, s] y) { y = Cast<to = 1>(input_ids) }", "0 and 0"),
        ("g (float[b, s] pixels) => (float[b, s] y) { y = Neg(pixels) }", "no input 'pixels'"),
        (
            "g (float[b, h, p, 8] past) => (float[b, h, p, 8] y, float[b, h, p, 8] present) "
            "{ y = Neg(past) present = Abs(past) }",
            "should be .* with numbers for heads",
        ),
    ],
)
def test_what_is_no_decoder_is_told(graph: str, told: str) -> None:
    model = parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {graph}')
    with pytest.raises(DataError, match=told):
        Decoder(Session(model.SerializeToString()))


def test_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decoding.main([str(tmp_path / "none.onnx")]) == 1
    assert capsys.readouterr().err.startswith("error: onnxruntime cannot load")
