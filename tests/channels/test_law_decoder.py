"""The law on a language model with a key-value cache, whose inputs hold keys and values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.channels.groups import find_groups
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.conftest import SUBJECTS
from tests.tiny_decoder import LENGTH

from .law import Feeds, Mask, loose_slices, try_law, whole_units

PAST = 5


def _feeds(folder: Path) -> list[Feeds]:
    """A prompt of one text, then three texts that go on where a cache left off."""
    data = load_dataset(str(folder / "data.npz"), Session(folder / "model.onnx").inputs)
    prompt, texts = (dict(next(data.take(range(n)).batches(n)).feeds) for n in (1, 3))
    rng = np.random.default_rng(0)
    for name, values in texts.items():
        if name.startswith("past"):
            batch, heads, _, size = values.shape
            texts[name] = rng.standard_normal((batch, heads, PAST, size)).astype(np.float32)
    texts["attention_mask"] = np.ones((3, LENGTH + PAST), np.int64)
    texts["position_ids"] = texts["position_ids"] + PAST
    return [prompt, texts]


def test_neurons_and_query_heads_are_followed(tiny_decoder: Path) -> None:
    """Of heads, as many queries of each pair of key and value: these are inputs and outputs."""
    found = find_groups(io.load(tiny_decoder / "model.onnx"), RuntimeContext())
    units = {group.name: len(group) for group in found.groups}
    layers = "/model/model/layers.0", "/model/model/layers.1"
    assert units == {
        **{f"{layer}/self_attn/q_proj/MatMul": 2 for layer in layers},
        **{f"{layer}/mlp/gate_proj/MatMul": 64 for layer in layers},
    }
    stay = {each.node.name: each.reason for each in found.skipped if "layernorm" not in each.reason}
    assert stay[f"{layers[0]}/self_attn/k_proj/MatMul"].endswith("is an input of the model")


@pytest.mark.parametrize("mask", [whole_units, loose_slices])
def test_stripping_changes_no_output(tiny_decoder: Path, mask: Mask) -> None:
    model, feeds = io.load(tiny_decoder / "model.onnx"), _feeds(tiny_decoder)
    for seed in range(2):
        outcome = try_law(model, feeds, seed=seed, mask=mask)
        assert outcome.holds and outcome.effect > 1e-2, outcome
        assert outcome.after < 0.9 * outcome.before, outcome


@pytest.mark.campaign
def test_stripping_smollm2_changes_no_output() -> None:
    folder = SUBJECTS / "smollm2"
    if not (folder / "model.onnx").is_file():
        pytest.skip("smollm2 was not fetched: python -m benchmarks.subjects fetches it")
    data = load_dataset(str(folder / "test.npz"), Session(folder / "model.onnx").inputs)
    feeds = dict(next(data.take(range(1)).batches(1)).feeds)
    for name in ("input_ids", "attention_mask", "position_ids"):
        feeds[name] = feeds[name][:, :16]
    outcome = try_law(io.load(folder / "model.onnx"), [feeds], seed=0)
    assert outcome.holds and outcome.effect > 1e-2, outcome
    assert outcome.groups == 60  # query heads and neurons of 30 layers
    assert outcome.after < 0.9 * outcome.before, outcome
