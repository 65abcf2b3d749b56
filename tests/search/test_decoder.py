"""A language model whose past is empty goes through everything that a user may do with it."""

import math
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.runtime.session import Session
from onnxcompress.search.bench import benchmark
from onnxcompress.search.compress import compress


def _by_hand(model: Path, data: Path) -> float:
    """The perplexity, one window after the other, by the definition."""
    session = Session(model)
    losses = []
    with np.load(data) as arrays:
        for row in range(len(arrays["labels"])):
            feeds = {tensor.name: arrays[tensor.name][row : row + 1] for tensor in session.inputs}
            logits = session.run(feeds, ["logits"])["logits"][0].astype(np.float64)
            chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
            losses.append(-np.log(chances[np.arange(len(chances)), arrays["labels"][row]]))
    return float(np.exp(np.mean(losses)))


def test_compress_with_a_calibrated_recipe(tiny_decoder: Path, tmp_path: Path) -> None:
    data, output = tiny_decoder / "data.npz", tmp_path / "small.onnx"
    report = compress(
        tiny_decoder / "model.onnx",
        output,
        data=str(data),
        metric="perplexity",
        max_drop=0.5,
        recipe=Recipe.of([parse_pass("quantize-static"), parse_pass("quantize-weights")]),
    )
    assert report.data.calibration_samples == 12
    # What goes back in is judged too.
    assert report.metric == "perplexity, r2"
    judged = benchmark([tiny_decoder / "model.onnx", output], data=str(data), metric="perplexity")
    original, small = judged.models
    assert original.score.value == pytest.approx(_by_hand(tiny_decoder / "model.onnx", data))
    assert small.score.value == pytest.approx(_by_hand(output, data))
    assert small.score.drop == pytest.approx(small.score.value / original.score.value - 1)
    assert small.size.file_bytes < original.size.file_bytes


def test_search_without_data(tiny_decoder: Path, tmp_path: Path) -> None:
    """Made-up samples have a past, whose length fits the mask."""
    report = compress(tiny_decoder / "model.onnx", tmp_path / "best.onnx")
    assert report.metric == "sqnr, r2"
    assert report.baseline.score.value == math.inf
    assert report.proof is None


def test_batches_of_an_empty_past(tiny_decoder: Path) -> None:
    session = Session(tiny_decoder / "model.onnx")
    data = load_dataset(str(tiny_decoder / "data.npz"), session.inputs)
    past = "past_key_values.1.value"
    sizes = [batch.feeds[past].shape for batch in data.take([3, 1, 20]).batches(2)]
    assert sizes == [(2, 2, 0, 8), (1, 2, 0, 8)]
    first, rest = data.split(6, seed=0)
    assert (len(first), len(rest)) == (6, 18)
    assert data.fingerprint() == data.take(range(24)).fingerprint() != first.fingerprint()
