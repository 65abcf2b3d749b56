"""Reads a decoder of the Llama family and its tokenizer from a GGUF file.

Imports torch: import it from inside a builder. The names and the order of rows in a GGUF file are
those of llama.cpp; see https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.subjects.errors import SubjectError

# Of a whole model, and of one layer: llama.cpp's name -> transformers' name.
_MODEL_NAMES: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_LAYER_NAMES: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Token types of llama.cpp: a control token is never made from text.
_CONTROL: Final = 3


def read_model(path: Path) -> LlamaForCausalLM:
    """The decoder in float32, in evaluation mode, with the table shared by both of its ends.

    Raises:
        SubjectError: the file holds weights that such a decoder has not, or lacks some.
    """
    reader = GGUFReader(path)
    config = _config(reader)
    model = LlamaForCausalLM(config)
    heads: dict[str, int] = {
        "attn_q": int(config.num_attention_heads),
        "attn_k": int(config.num_key_value_heads or config.num_attention_heads),
    }
    state = dict(_weight(tensor, heads) for tensor in reader.tensors)
    found = model.load_state_dict(state, strict=False)
    # The output table is the input table, under a second name.
    wrong = [*{*found.missing_keys} - {"lm_head.weight"}, *found.unexpected_keys]
    if wrong:
        raise SubjectError(f"{path.name}: weights do not fit the decoder: {', '.join(wrong)}")
    model.train(False)
    return model


def read_tokenizer(path: Path) -> Tokenizer:
    """Byte-level BPE that takes every digit for itself, as the SmolLM models are trained with."""
    reader = GGUFReader(path)
    tokens = [str(token) for token in _value(reader, "tokenizer.ggml.tokens")]
    merges = [_pair(str(merge)) for merge in _value(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_of_words])
    tokenizer.decoder = decoders.ByteLevel()
    types = _value(reader, "tokenizer.ggml.token_type")
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True)
            for token, kind in zip(tokens, types, strict=True)
            if kind == _CONTROL
        ]
    )
    return tokenizer


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _config(reader: GGUFReader) -> LlamaConfig:
    config = LlamaConfig(
        vocab_size=len(_value(reader, "tokenizer.ggml.tokens")),
        hidden_size=_value(reader, "llama.embedding_length"),
        intermediate_size=_value(reader, "llama.feed_forward_length"),
        num_hidden_layers=_value(reader, "llama.block_count"),
        num_attention_heads=_value(reader, "llama.attention.head_count"),
        num_key_value_heads=_value(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=_value(reader, "llama.context_length"),
        rms_norm_eps=_value(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": _value(reader, "llama.rope.freq_base"),
        },
        tie_word_embeddings=True,
    )
    # Attention as MatMul, Softmax, MatMul; the fused form would not export so.
    config._attn_implementation = "eager"
    return config


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise SubjectError(f"the GGUF file says nothing of {key}")
    return field.contents()


def _weight(tensor: ReaderTensor, heads: dict[str, int]) -> tuple[str, torch.Tensor]:
    """The name in transformers and the values in float32, as (outputs, inputs)."""
    name = tensor.name.removesuffix(".weight")
    values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    if not name.startswith("blk."):
        return f"{_MODEL_NAMES.get(name, name)}.weight", torch.from_numpy(values)
    _, layer, part = name.split(".")
    if part in heads:
        values = _halves_apart(values, heads[part])
    return f"model.layers.{layer}.{_LAYER_NAMES.get(part, part)}.weight", torch.from_numpy(values)


def _halves_apart(rows: np.ndarray, heads: int) -> np.ndarray:
    """Within each head, even rows and then odd rows.

    llama.cpp rotates neighbours by one angle, transformers a row and the one half a head later.
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))
